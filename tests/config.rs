//! The configuration from outside: precedence, faults all at once, nothing secret printed.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use segue::config::{CompareRule, Config, Excluded, Sources, keys};
use segue::domain::table::{TableMapping, TableName};
use segue::dsn::SslMode;

const DATABASES: &str = r#"
[source]
dsn = "postgres://app:hunter2@db1,db2:5433/shop?sslmode=verify-full&sslrootcert=system"
[target]
dsn = "host=crdb port=26257 user=app dbname=shop"
"#;

struct Given {
    folder: tempfile::TempDir,
    sources: Sources,
}

fn given(file: &str) -> Given {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segue.toml");
    fs::write(&path, file).unwrap();
    Given { folder, sources: Sources { file: Some(path), ..Sources::default() } }
}

impl Given {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.sources.flags.push((key.to_owned(), value.to_owned(), format!("--set {key}")));
        self
    }

    fn config(&self) -> Config {
        Config::load(&self.sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The faults as printed, without the folder.
    fn faults(&self) -> Vec<String> {
        let faults = Config::load(&self.sources).unwrap_err();
        let folder = format!("{}/", self.folder.path().display());
        faults.0.iter().map(|fault| fault.to_string().replace(&folder, "")).collect()
    }
}

#[test]
fn two_databases_are_enough() {
    let config = given(DATABASES).config();
    let places = config.source.dsn.places();
    assert_eq!(places, "db1:5432,db2:5433", "a host of a URL without a port has the default one");
    assert_eq!(config.source.dsn.ssl_mode, SslMode::VerifyFull);
    assert_eq!(config.target.dsn.to_string(), "app@crdb:26257/shop");
    assert_eq!(config.target.dsn.ssl_mode, SslMode::Prefer);
    assert_eq!(config.target.dsn.connect_timeout, Duration::from_secs(5));
    assert_eq!(config.target.dsn.password_file, None);
    assert_eq!(config.listen.sql, "127.0.0.1:7400");
    assert_eq!(config.outbox.max_bytes, 1 << 30);
    assert_eq!(config.outbox.deadline, Duration::from_secs(5));
    assert_eq!(config.sampling.rate, 0.1);
    assert!(!config.compare.show_values && config.control.migrate_at_start);
}

#[test]
fn flags_go_before_variables_before_the_file_before_libpq() {
    let file = format!("{DATABASES}user = \"from_file\"\n[sampling]\nrate = 0.2\n");
    let low = given(&file).variable("PGUSER", "from_libpq").variable("PGPASSWORD", "p");
    assert_eq!(low.config().target.dsn.user, "from_file");
    assert_eq!(
        low.config().source.dsn.user,
        "app",
        "a word of the dsn goes before libpq's variable"
    );
    assert_eq!(low.config().target.dsn.password.unwrap().expose(), "p");
    assert_eq!(low.config().sampling.rate, 0.2);
    let middle = low
        .variable("SEGUE_SAMPLING_RATE", "0.3")
        .variable("SEGUE_TARGET_DSN", "postgres://from_variable@elsewhere/shop");
    assert_eq!(middle.config().sampling.rate, 0.3);
    assert_eq!(middle.config().target.dsn.user, "from_variable", "a higher layer's dsn is the dsn");
    let high = middle.flag("sampling.rate", "0.4").flag("target.user", "from_flag");
    assert_eq!(high.config().sampling.rate, 0.4);
    assert_eq!(high.config().target.dsn.user, "from_flag");
    assert_eq!(high.config().target.dsn.places(), "elsewhere:5432");
}

#[test]
fn libpq_never_says_where_the_target_is() {
    let file = "[source]\n[target]\nuser = \"u\"\n";
    let found = given(file).variable("PGHOST", "db").variable("PGUSER", "u").faults();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("target.host: nothing says where the database is"), "{found:#?}");
}

#[test]
fn all_faults_come_at_once_with_line_key_value_and_remedy() {
    let file = r#"[source]
dsn = "postgres://app:hunter2@db/shop?sslmode=verify_full"
[target]
dsn = "secret-without-form"
sslmode = "allow"
sslcert = "/nowhere/client.pem"
[listen]
sql = "7400"
[limits]
result_rows_max = 0
deadline_default = "1h"
[transactions]
idle_max = 30
[sampling]
rate = 10
statments = { get_order = 1 }
[outbox]
max_byte = "1GiB"
max_bytes = "much"
stuck_after = "eight"
[compare]
show_values = "no"
[[compare.rules]]
table = "orders"
precision = 9
[[compare.rules]]
column = "total"
tolerance = 0.1
[tables]
exclude = "public.audit"
[[tables.map]]
target = "public.b"
[telemetry]
otlp_protocol = "http"
[outboks]
x = 1
"#;
    let found = given(file)
        .variable("SEGUE_SAMPLING_RATES", "1")
        .variable("SEGUE_CRASH_AT", "after_lok")
        .variable("SEGUE_STOP_AT", "after_lock:soon")
        .flag("limit.x", "1")
        .faults();
    let expected = [
        "segue.toml:2: source.dsn = \"dbname=shop host=db password=[redacted] sslmode=verify_full user=app\": sslmode is not one of disable, prefer, require, verify-ca, verify-full",
        "segue.toml:4: target.dsn = \"[redacted]\": it is neither a URL nor `key=value` words",
        "segue.toml:5: target.sslmode = \"allow\": sslmode=allow begins in clear text and is not implemented",
        "segue.toml:6: target.sslcert = \"/nowhere/client.pem\": the file cannot be read:",
        "segue.toml:8: listen.sql = \"7400\": is not an address:",
        "segue.toml:10: limits.result_rows_max = 0: is not between 1 and 4294967295",
        "segue.toml:11: limits.deadline_default = \"1h\": is longer than limits.deadline_max",
        "segue.toml:13: transactions.idle_max = \"30\": a duration needs a unit; write \"30s\" or \"30ms\"",
        "segue.toml:15: sampling.rate = 10: is not a number between 0 and 1",
        "segue.toml:16: sampling.statments: unknown key; did you mean \"statements\"?",
        "segue.toml:18: outbox.max_byte: unknown key; did you mean \"max_bytes\"?",
        "segue.toml:19: outbox.max_bytes = \"much\": is not a size; write it as",
        "segue.toml:20: outbox.stuck_after = eight: is not a whole number",
        "segue.toml:22: compare.show_values = no: is neither true nor false",
        "segue.toml:24: compare.rules.table = \"orders\": is not schema.table; write \"public.orders\"",
        "segue.toml:25: compare.rules.precision = \"9\": is not between 0 and 6",
        "segue.toml:28: compare.rules.tolerance = \"0.1\": unknown key",
        "segue.toml:30: tables.exclude: is of type string; write an array of texts",
        "segue.toml:31: tables.map: names no source; write source = \"public.orders\"",
        "segue.toml:34: telemetry.otlp_protocol = \"http\": the choices are grpc, http/protobuf",
        "segue.toml:35: outboks: unknown section; did you mean \"outbox\"?",
        "SEGUE_SAMPLING_RATES: unknown variable; did you mean \"SEGUE_SAMPLING_RATE\"?",
        "SEGUE_CRASH_AT: no failpoint is called \"after_lok\"; did you mean \"after_lock\"?",
        "SEGUE_STOP_AT: expected a number from 1 after the colon, found \"soon\"; write after_lock:7",
        "--set limit.x: limit.x: unknown key",
    ];
    for wanted in expected {
        assert!(found.iter().any(|fault| fault.starts_with(wanted)), "{wanted}\nnot in {found:#?}");
    }
    let lines: Vec<usize> = found
        .iter()
        .filter_map(|fault| fault.strip_prefix("segue.toml:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.is_sorted(), "{found:#?}");
    assert!(!found.concat().contains("hunter2") && !found.concat().contains("secret"));
}

#[test]
fn open_transactions_leave_connections_for_other_writes() {
    let config = given(DATABASES).config();
    for pool in [config.source.write_pool_max, config.target.write_pool_max] {
        assert!(config.transactions.open_max < pool, "by default");
    }
    let file = format!("{DATABASES}write_pool_max = 20\n[transactions]\nopen_max = 16\n");
    assert_eq!(
        given(&file).faults(),
        [
            "segue.toml:8: transactions.open_max = 16: leaves other writes none of the 16 connections; \
          write at most 15, or raise source.write_pool_max"
        ]
    );
    let file = format!("{DATABASES}write_pool_max = 8\n");
    assert_eq!(
        given(&file).faults(),
        ["segue.toml:6: target.write_pool_max = 8: leaves none for other writes beside 12 open \
          transactions; write at least 13, or set transactions.open_max to 7"]
    );
    let file = format!("{DATABASES}write_pool_max = 1\n");
    assert!(given(&file).faults()[0].contains("is not between 2 and 1000"));
    given(&format!("{DATABASES}write_pool_max = 2\n[transactions]\nopen_max = 1\n")).config();
}

#[test]
fn the_memory_of_samples_has_room_for_a_difference() {
    let file = format!("{DATABASES}[sampling]\nmemory_bytes_max = \"8MiB\"\n");
    assert_eq!(
        given(&file).faults(),
        ["segue.toml:7: sampling.memory_bytes_max = \"8MiB\": is less than three times \
          sampling.answer_bytes_max: raise one, or lower the other"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_fatal() {
    let mut sources = given(DATABASES).sources;
    sources.file = Some("/nowhere/segue.toml".into());
    let faults = Config::load(&sources).unwrap_err().to_string();
    assert!(faults.contains("/nowhere/segue.toml:1: the file cannot be read"), "{faults}");
}

#[test]
fn what_is_not_toml_is_told_without_quoting_it() {
    let found = given("[source]\ndsn = \"postgres://a:hunter2@b/c\n[listen]\nsql = 1 2\n").faults();
    assert!(
        found.iter().any(|fault| fault.starts_with("segue.toml:2: the file is not TOML")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|fault| fault.starts_with("segue.toml:4: the file is not TOML")),
        "{found:#?}"
    );
    assert!(!found.concat().contains("hunter2"), "{found:#?}");
}

#[test]
fn nothing_prints_a_secret() {
    let file = format!(
        "{DATABASES}password = \"hunter3\"\n[telemetry]\notlp_headers = {{ authorization = \"hunter4\" }}\n"
    );
    let config = given(&file).config();
    let printed = format!("{config:?} {:?}", config.effective());
    assert!(!printed.contains("hunter"), "{printed}");
    assert_eq!(config.source.dsn.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(config.telemetry.otlp_headers[0].1.expose(), "hunter4");
}

#[test]
fn one_database_on_both_sides_is_refused() {
    let found =
        given("[source]\ndsn = \"postgres://a@h/d\"\n[target]\ndsn = \"host=h user=b dbname=d\"\n")
            .faults();
    assert!(found[0].contains("is the same database as the source"), "{found:#?}");
}

#[test]
fn two_passwords_of_one_layer_are_refused_and_a_higher_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "x\n").unwrap();
    let file = format!("{DATABASES}password_file = {path:?}\n");
    assert_eq!(given(&file).config().target.dsn.password_file, Some(path.clone()));
    let higher = given(&file).variable("SEGUE_TARGET_PASSWORD", "y").config();
    assert_eq!(higher.target.dsn.password.unwrap().expose(), "y");
    assert_eq!(higher.target.dsn.password_file, None);
    let found = given(&format!("{file}password = \"y\"\n")).faults();
    assert!(found[0].contains("there is a password_file as well"), "{found:#?}");
}

#[test]
fn the_applications_login_takes_all_but_the_password_from_its_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "x\n").unwrap();
    let file = format!(
        "[source]
dsn = \"postgres://own:hunter2@db1,db2:5433/shop?sslmode=verify-full&sslrootcert=system\"
application = \"postgres://app:hunter3@db1,db2:5433/shop\"
[target]
dsn = \"host=crdb port=26257 user=own password=hunter4 dbname=shop\"
application = \"user=app options='-c search_path=shop'\"
application_password_file = {path:?}
"
    );
    let config = given(&file).config();
    assert_eq!(config.source.dsn.user, "own");
    let login = config.source.application.clone().unwrap();
    assert_eq!(login.user, "app");
    assert_eq!(login.to_string(), "app@db1:5432,db2:5433/shop");
    assert_eq!(login.password.unwrap().expose(), "hunter3");
    assert_eq!(login.ssl_mode, SslMode::VerifyFull);
    let login = config.target.application.clone().unwrap();
    assert_eq!(login.to_string(), "app@crdb:26257/shop");
    assert_eq!(login.options.as_deref(), Some("-c search_path=shop"));
    assert_eq!((login.password, login.password_file), (None, Some(path)));
    // Nor does a variable give it segue's own.
    let login = given(&file).variable("PGPASSWORD", "hunter5").config().target.application.unwrap();
    assert_eq!(login.password, None);
    let printed = format!("{config:?} {:?}", config.effective());
    assert!(!printed.contains("hunter"), "{printed}");
    assert_eq!(given(DATABASES).config().source.application, None);
}

#[test]
fn an_application_that_callers_could_get_round_is_refused() {
    for (application, why) in [
        ("shop_app", "name a login of its own: \"user=shop_app\""),
        ("user=app", "logs in as app, which is segue's own role"),
        ("options='-c role=shop'", "nothing says who asks"),
        ("postgres://shop@elsewhere/shop", "says another host than the side"),
        ("user=shop sslmode=disable", "says another sslmode than the side"),
        ("user=shop colour=red", "which segue does not know"),
    ] {
        let file =
            DATABASES.replace("[target]", &format!("application = \"{application}\"\n[target]"));
        let found = given(&file).faults();
        assert!(found.len() == 1 && found[0].contains(why), "{application}: {found:#?}");
        assert!(found[0].contains("source.application"), "{found:#?}");
    }
    let file = DATABASES.replace("[target]", "application_password_file = \"/dev/null\"\n[target]");
    let found = given(&file).faults();
    assert!(found[0].contains("there is no login whose password it is"), "{found:#?}");
    let file = DATABASES.replace("[target]", "application = \"user=shop\"\n[target]");
    let found = given(&format!("{file}[cutover]\nread_only_roles = [\"x\", \"shop\"]\n")).faults();
    assert!(found[0].contains("as which segue runs callers' statements itself"), "{found:#?}");
}

#[test]
fn tables_and_rules() {
    let file = format!(
        "{DATABASES}
[tables]
exclude = [\"audit.*\", \"public.log\"]
[[tables.map]]
source = \"public.orders\"
target = \"shop.orders\"
[[tables.map]]
source = \"public.items\"
[[compare.rules]]
table = \"public.orders\"
column = \"total\"
float_tolerance = 1e-9
[[compare.rules]]
statement = \"list_orders\"
unordered = true
"
    );
    let config = given(&file).config();
    let excluded =
        [Excluded::Schema("audit".to_owned()), Excluded::Table(TableName::new("public", "log"))];
    assert_eq!(config.tables.excluded, excluded);
    let orders = TableName::new("public", "orders");
    let mapped = TableMapping { source: orders.clone(), target: TableName::new("shop", "orders") };
    assert_eq!(config.tables.mapped[0], mapped);
    assert_eq!(config.tables.mapped[1].target, TableName::new("public", "items"));
    let rule = CompareRule {
        table: Some(orders),
        column: Some("total".to_owned()),
        float_tolerance: Some(1e-9),
        ..CompareRule::default()
    };
    assert_eq!(config.compare.rules[0], rule);
    assert!(config.compare.rules[1].unordered);
}

#[test]
fn variables_that_kubernetes_makes_are_no_fault() {
    let given = given(DATABASES)
        .variable("SEGUE_PORT", "tcp://10.0.0.1:7400")
        .variable("SEGUE_SERVICE_HOST", "10.0.0.1")
        .variable("SEGUE_SERVICE_PORT_SQL", "7400")
        .variable("SEGUE_PORT_7400_TCP_ADDR", "10.0.0.1");
    given.config();
}

/// Regenerate with `segue config keys`.
#[test]
fn the_documentation_lists_every_key_as_it_is() {
    let page = fs::read_to_string("docs/reference/configuration.md").unwrap();
    for line in keys::markdown().lines().filter(|line| !line.is_empty()) {
        assert!(
            page.lines().any(|found| found == line),
            "docs/reference/configuration.md lacks\n{line}"
        );
    }
    let (_, page) = page.split_once("## All keys").unwrap();
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows(page), rows(&keys::markdown()), "the page has rows for keys that are gone");
}

/// Keys stand in the example as comments with their defaults, and it is in order with and without
/// them. Files that it names are not there.
#[test]
fn the_example_has_every_key_and_is_in_order() {
    let example = fs::read_to_string("docs/segue.example.toml").unwrap();
    given(&example).config();
    let mut section = String::new();
    let mut named = BTreeSet::new();
    let mut whole = String::new();
    for line in example.lines() {
        let is_setting = |rest: &&str| rest.starts_with(|it: char| it == '[' || it.is_lowercase());
        let commented = line.strip_prefix('#').filter(is_setting);
        let text = commented.unwrap_or(line);
        let mut taken = text;
        if text.starts_with('[') {
            section = text.trim_matches(['[', ']']).to_owned();
            named.insert(section.clone());
        } else if let Some((name, value)) = text.split_once(" = ") {
            let path = format!("{section}.{name}");
            if let Some(key) = keys::all().find(|key| key.path() == path) {
                let plain: String = value.chars().filter(|it| !"[]\" ".contains(*it)).collect();
                let is_default = key.default.is_empty() || plain == key.default;
                assert!(commented.is_none() || is_default, "{path} = {value} is no default");
                if key.kind == keys::Kind::Path || path == "queries.paths" {
                    taken = "";
                }
            }
            named.insert(path);
        }
        whole += taken;
        whole.push('\n');
    }
    let missing: Vec<_> =
        keys::all().map(|key| key.path()).filter(|path| !named.contains(path)).collect();
    assert!(missing.is_empty(), "docs/segue.example.toml lacks {missing:?}");
    given(&whole).config();
}

/// A key that nobody reads would be a promise not kept: each must be named, as its field in the
/// checked form, where the parts are put together.
#[test]
fn every_key_reaches_something() {
    let mut text = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = ["src/app", "src/cli", "src/config/mod.rs"].map(|at| root.join(at)).to_vec();
    while let Some(path) = paths.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => paths.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => text += &std::fs::read_to_string(path).unwrap(),
        }
    }
    let unread: Vec<String> = segue::config::keys::all()
        .filter(|key| {
            let field = match key.name {
                "map" => "mapped",
                "exclude" => "excluded",
                "otlp_protocol" => "otlp_http",
                "log_format" => "log_json",
                "application_password_file" => "application",
                "proof_max_age" | "proof_max_age_of" => "proof_ages",
                // Of a connection string, which travels as one.
                "dsn" | "host" | "port" | "dbname" | "user" | "password" | "password_file"
                | "passfile" | "sslmode" | "sslrootcert" | "sslcert" | "sslkey"
                | "connect_timeout" => "dsn",
                other => other,
            };
            let section = match key.section {
                // Handed on under the name of what they configure.
                "source" | "target" | "telemetry" => "config",
                "gates" if field == "proof_ages" => "config",
                other => other,
            };
            !text.contains(&format!("{section}.{field}"))
        })
        .map(|key| key.path())
        .collect();
    assert!(unread.is_empty(), "nobody reads {unread:?}");
}

#[test]
fn reads_are_shifted_as_the_playbook_says_unless_the_file_says_otherwise() {
    let shares = |config: &Config| {
        let steps = config.read_routing.escalation_schedule.iter();
        steps
            .map(|step| (step.after.as_secs() / 3600, step.percentage.percent()))
            .collect::<Vec<_>>()
    };
    let config = given(DATABASES).config();
    assert_eq!(config.read_routing.target_percentage.percent(), 5.0);
    assert_eq!(shares(&config), [(24, 20.0), (24, 50.0), (24, 80.0), (24, 100.0)]);
    let trigger = config.read_routing.rollback_trigger;
    assert_eq!(
        (trigger.error_rate_threshold, trigger.latency_p99_threshold.as_millis()),
        (0.001, 500)
    );
    assert_eq!(config.gates.dual_write_min, Duration::from_secs(14 * 24 * 3600));
    assert_eq!(config.control.lease, Duration::from_secs(10));
    assert!(config.control.name.ends_with(":7401"), "{}", config.control.name);

    let file = format!(
        "{DATABASES}[read_routing]\ntarget_percentage = 0.5\n\
         [[read_routing.escalation_schedule]]\nafter = \"1h\"\npercentage = 100\n\
         [read_routing.rollback_trigger]\nerror_rate_threshold = \"1%\"\nmin_samples = 7\n"
    );
    let config = given(&file).config();
    assert_eq!(shares(&config), [(1, 100.0)]);
    let trigger = config.read_routing.rollback_trigger;
    assert_eq!((trigger.error_rate_threshold, trigger.min_samples), (0.01, 7));
    let none = given(&format!("{DATABASES}[read_routing]\nescalation_schedule = []\n")).config();
    assert_eq!(shares(&none), []);
}

#[test]
fn a_table_may_have_a_proof_age_of_its_own_and_be_compared_whole() {
    let file = "[gates]\nproof_max_age = \"12h\"\n\
        proof_max_age_of = { \"public.audit\" = \"7d\", \"archive.*\" = \"30d\" }\n\
        [cutover]\nfull_verify = [\"public.accounts\", \"ledger.*\"]\n";
    let config = given(&format!("{DATABASES}{file}")).config();
    let hours = |schema: &str, table: &str| {
        config.proof_ages.max_of(&TableName::new(schema, table)).as_secs() / 3600
    };
    assert_eq!(hours("public", "orders"), 12);
    assert_eq!(hours("public", "audit"), 7 * 24);
    assert_eq!(hours("archive", "orders"), 30 * 24);
    let named: Vec<String> = config.cutover.full_verify.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["public.accounts", "ledger.*"]);
    let wrong = "[gates]\nproof_max_age = \"0s\"\n\
        proof_max_age_of = { audit = \"7d\", \"public.audit\" = \"soon\" }\n\
        [cutover]\nfull_verify = [\"accounts\"]\n";
    let faults = given(&format!("{DATABASES}{wrong}")).faults();
    assert_eq!(faults.len(), 4, "{faults:#?}");
    for part in [
        "gates.proof_max_age = \"0s\": must be above zero",
        "\"audit\" is not schema.table",
        "soon",
        "\"accounts\" is not",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_schedule_or_a_trigger_is_told_with_its_way_out() {
    let file = format!(
        "{DATABASES}[control]\nlease = \"2s\"\n[read_routing]\ntarget_percentage = 101\n\
         [[read_routing.escalation_schedule]]\nafter = \"1h\"\npercentage = 50\n\
         [[read_routing.escalation_schedule]]\nafter = \"soon\"\npercentge = 20\n\
         [[read_routing.escalation_schedule]]\nafter = \"1h\"\npercentage = 20\n\
         [read_routing.rollback_trigger]\nerror_rate_treshold = 0.1\nwindow = \"0s\"\n"
    );
    let found = given(&file).faults().join("\n");
    for part in [
        "control.lease",
        "three times control.poll_interval",
        "101",
        "is not a number between 0 and 100",
        "did you mean \"percentage\"?",
        "has no percentage",
        "is not above the step before it",
        "did you mean \"error_rate_threshold\"?",
        "window = 0s must be above zero",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
}

/// What a session cannot be opened with is told by the check.
#[test]
fn what_init_would_refuse_the_check_refuses() {
    for (more, key, why) in [
        ("?channel_binding=maybe", "target.dsn", "channel_binding is not one of"),
        ("?target_session_attrs=bogus", "target.dsn", "target_session_attrs is not one of"),
        ("?sslmode=verify-full", "target.sslrootcert", "no root certificate is named"),
        ("?sslmode=verify-ca&sslrootcert=system", "target.dsn", "needs sslmode=verify-full"),
        ("?hostaddr=::1,::2", "target.dsn", "hostaddr has 2 addresses for 1 hosts"),
        ("?load_balance_hosts=random", "target.dsn", "must be disable"),
        ("?connect_timeout=soon", "target.dsn", "is not a number of seconds"),
        (
            "?service=nowhere&servicefile=/nowhere",
            "target.dsn",
            "there is no service file /nowhere",
        ),
    ] {
        let file = format!(
            "[source]\ndsn = \"postgres://u@a/d\"\n[target]\ndsn = \"postgres://u@b/d{more}\"\n"
        );
        let found = given(&file).faults();
        assert_eq!(found.len(), 1, "{more}: {found:#?}");
        assert!(found[0].contains(key) && found[0].contains(why), "{more}: {found:#?}");
    }
    let found = given(DATABASES).variable("PGREQUIREAUTH", "scram-sha-256").faults();
    assert!(
        found[0].contains("PGREQUIREAUTH is set, which segue does not implement"),
        "{found:#?}"
    );
}

#[test]
fn a_service_and_the_variables_are_below_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("services");
    fs::write(&path, "[shop]\nhost=of_service\nuser=of_service\nsslmode=require\n").unwrap();
    let path = path.to_str().unwrap();
    let file = "[source]\nuser = \"of_key\"\n[target]\ndsn = \"service=shop dbname=d\"\n";
    let config = given(file)
        .variable("PGSERVICEFILE", path)
        .variable("PGSERVICE", "shop")
        .variable("PGUSER", "of_variable")
        .variable("PGDATABASE", "of_variable")
        .variable("PGCONNECT_TIMEOUT", "7")
        .config();
    assert_eq!(config.source.dsn.to_string(), "of_key@of_service:5432/of_variable");
    assert_eq!(config.target.dsn.to_string(), "of_service@of_service:5432/d");
    assert_eq!(config.target.dsn.ssl_mode, SslMode::Require);
    assert_eq!(config.target.dsn.connect_timeout, Duration::from_secs(7));
    let found = given("[source]\nuser = \"u\"\n[target]\nuser = \"u\"\n")
        .variable("PGSERVICEFILE", path)
        .variable("PGSERVICE", "shop")
        .faults();
    assert_eq!(found.len(), 1, "a service is the source's alone: {found:#?}");
    assert!(found[0].starts_with("target.host"), "{found:#?}");
}

#[test]
fn the_smallest_file_of_the_documentation_is_enough() {
    let page = include_str!("../docs/reference/configuration.md");
    let (_, after) = page.split_once("The smallest file:\n\n```toml\n").unwrap();
    let (file, _) = after.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "x\n").unwrap();
    let file = ["source", "target"].iter().fold(file.to_owned(), |file, side| {
        file.replace(&format!("/run/secrets/{side}-password"), password.to_str().unwrap())
    });
    let config = given(&file).config();
    assert_eq!(config.source.dsn.ssl_mode, SslMode::VerifyFull);
}
