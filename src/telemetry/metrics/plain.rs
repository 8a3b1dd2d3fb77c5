//! The older text format of Prometheus, version 0.0.4, made from a page of OpenMetrics.
//!
//! By <https://prometheus.io/docs/instrumenting/exposition_formats/>: a counter's family is called
//! as its samples are, there are no units, no exemplars and no end mark, and what has no type is
//! `untyped`.

/// The type of the text that `of` makes.
pub const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Turns a page into the older format. `page` is as `prometheus_client` writes it: a family's help
/// comes before its type, and its samples after that.
pub(super) fn of(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    let mut help: Option<(&str, &str)> = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').or(Some((rest, "")));
        } else if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.rsplit_once(' '))
        {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let kind = match kind {
                "unknown" => "untyped",
                "info" | "stateset" => "gauge",
                kind => kind,
            };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == family) {
                plain += &format!("# HELP {family}{suffix} {text}\n");
            }
            plain += &format!("# TYPE {family}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            plain += line.split_once(" # {").map_or(line, |(sample, _)| sample);
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_the_same_in_the_older_format() {
        let page = "# HELP a_b Some calls.\n# TYPE a_b counter\n# UNIT a_b seconds\n\
            a_b_total{x=\"1 # {\"} 3 # {trace_id=\"7\"} 1.0\n# HELP c Now.\n# TYPE c gauge\nc 1\n\
            # TYPE d unknown\nd 2\n# EOF\n";
        assert!(of(page).contains("# TYPE a_b_total counter\na_b_total{x=\"1"));
        let plain = of(&page.replace("x=\"1 # {\"", "x=\"1\""));
        let expected = "# HELP a_b_total Some calls.\n# TYPE a_b_total counter\n\
            a_b_total{x=\"1\"} 3\n# HELP c Now.\n# TYPE c gauge\nc 1\n# TYPE d untyped\nd 2\n";
        assert_eq!(plain, expected);
    }
}
