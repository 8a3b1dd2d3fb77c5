//! Medians and tables.

use crate::load::Turn;

/// A contender's turns.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub turns: Vec<Turn>,
}

/// The median of some numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => numbers[count / 2],
        count => f64::midpoint(numbers[count / 2 - 1], numbers[count / 2]),
    }
}

/// Prints what contenders came to; ratios are to the first one, turn by turn.
pub fn table(title: &str, columns: &[Column]) {
    println!("\n### {title}\n");
    println!(
        "| | calls/s | ratio | p50 ms | p99 ms | CPU µs a call: segue | servers | client |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|"
    );
    let first = &columns[0].turns;
    for Column { name, turns } in columns {
        let of = |what: &dyn Fn(&Turn) -> f64| median(turns.iter().map(what).collect());
        let ratios = turns.iter().zip(first).map(|(turn, first)| turn.rate / first.rate);
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.2} | {} | {:.0} | {:.0} |",
            of(&|turn| turn.rate),
            median(ratios.collect()),
            of(&|turn| turn.latency.quantile_ms(0.5)),
            of(&|turn| turn.latency.quantile_ms(0.99)),
            match of(&|turn| turn.segue_us) {
                us if us > 0.0 => format!("{us:.1}"),
                _ => "–".to_owned(),
            },
            of(&|turn| turn.server_us),
            of(&|turn| turn.client_us),
        );
    }
}
