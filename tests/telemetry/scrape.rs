//! Metrics and health on the admin listener of the real command.

use std::collections::BTreeSet;
use std::time::Duration;

use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

use crate::support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const SOURCE: &str = "CREATE TABLE orders (id int8 PRIMARY KEY, note text)";
const TARGET: &str = "CREATE TABLE orders (id int8 PRIMARY KEY, note text CHECK (note <> 'bad'))";

async fn get(address: &str, path: &str) -> (u16, String) {
    get_as(address, path, "*/*").await
}

async fn get_as(address: &str, path: &str, accept: &str) -> (u16, String) {
    let mut stream =
        tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: segue\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer)
}

fn sql(text: &str) -> Option<proto::Statement> {
    let text = Some(proto::statement::Text::Sql(text.to_owned()));
    Some(proto::Statement { text, params: Vec::new() })
}

async fn load(client: &mut SqlClient<Channel>) {
    for write in ["INSERT INTO orders VALUES (1, 'good')", "INSERT INTO orders VALUES (2, 'bad')"] {
        let statement = sql(write);
        let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
        client.execute(request).await.unwrap();
    }
    for read in ["SELECT id FROM orders WHERE id = 1", "SELECT repeat('x', 10000)"] {
        let request = proto::QueryRequest { statement: sql(read), ..Default::default() };
        let mut frames = client.query(request).await.unwrap().into_inner();
        while frames.message().await.unwrap().is_some() {}
    }
    let request = proto::QueryRequest { statement: sql("DROP TABLE orders"), ..Default::default() };
    let refused = match client.query(request).await {
        Ok(frames) => frames.into_inner().message().await.err(),
        Err(status) => Some(status),
    };
    assert!(refused.is_some());
}

/// The families of `docs/reference/metrics.md`, without their labels.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../docs/reference/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.map(|row| row.split('`').next().unwrap().to_owned());
    names.filter(|name| name.starts_with("segue_") || name.starts_with("process_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_has_data_after_a_load() {
    let pair = Pair::fresh(SOURCE, TARGET).await;
    let settings = "[sampling]\nrate = 1\nanswer_bytes_max = \"4KiB\"\npending_wait_max = \"1s\"";
    let mut segue = Segue::serving(&pair, "shadow_read", settings).await;
    segue.succeed(&["backfill", "--accept", "constraint.check_target"]);
    load(&mut SqlClient::connect(segue.sql_address()).await.unwrap()).await;
    // Somebody else's.
    pair.target.run("INSERT INTO orders VALUES (77, 'foreign')").await;
    let wanted = documented();
    assert!(wanted.len() >= 20, "{wanted:?}");
    let missing = std::sync::Mutex::new(wanted.clone());
    // As where what waits has passed the limit; upkeep forgets it where nothing stands for it.
    let folded = "INSERT INTO segue.pending_table (table_id, since, keys, reason)
        SELECT table_id, now(), 5, 'a test' FROM segue.migrated_table WHERE source_name = 'orders'
        ON CONFLICT DO NOTHING";
    let page = eventually("every family has data", LIMIT, || async {
        pair.source.run(folded).await;
        let (code, page) = get(&segue.admin_address(), "/metrics").await;
        assert_eq!(code, 200);
        let has = |family: &String| {
            page.lines().any(|line| line.starts_with(family.as_str()) && !line.contains("# "))
        };
        let left: BTreeSet<_> = wanted.iter().filter(|it| !has(it)).cloned().collect();
        if *missing.lock().unwrap() != left {
            println!("still without data: {left:?}");
            *missing.lock().unwrap() = left.clone();
        }
        left.is_empty().then_some(page)
    })
    .await;
    // And nothing is shown that is not documented.
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let family = line.split(' ').next().unwrap();
        assert!(wanted.contains(family), "{family} is not in docs/reference/metrics.md");
    }
    for (path, code) in [
        ("/healthz", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/ready", 404),
        ("/metrics/", 404),
        ("/segue.v1.Migration/GetStatus", 404),
        ("/", 404),
    ] {
        assert_eq!(get(&segue.admin_address(), path).await.0, code, "{path}");
    }
    assert!(segue.terminate().await, "{}", segue.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_the_format_that_it_asks_for() {
    let pair = Pair::fresh(SOURCE, TARGET).await;
    let segue = Segue::serving(&pair, "source_only", "").await;
    let page = |accept| {
        let address = segue.admin_address();
        async move { get_as(&address, "/metrics", accept).await.1 }
    };
    let plain = page("text/plain").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("# TYPE segue_faults_total counter"), "{plain}");
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3,*/*;q=0.1";
    for accept in [prometheus, "*/*"] {
        let page = page(accept).await;
        assert!(page.contains("content-type: application/openmetrics-text"), "{page}");
        assert!(page.contains("# TYPE segue_faults counter") && page.contains("# EOF"), "{page}");
        let build =
            format!("segue_build_info{{version=\"{}\",commit=\"", segue::telemetry::VERSION);
        assert!(page.contains(&build), "{page}");
    }
    let shown = segue.succeed(&["--version"]);
    assert_eq!(shown.trim(), format!("segue {}", segue::telemetry::BUILD));
}
