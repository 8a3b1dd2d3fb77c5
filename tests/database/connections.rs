//! Opening sessions: strings, TLS, passwords, poolers.

use std::process::Command;
use std::time::Duration;

use segue::domain::fault::FaultKind;
use segue::domain::reason::Reason;
use segue::domain::side::Side;
use segue::dsn::Dsn;
use segue::postgres::pool::{Params, Pool};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;

use crate::rig::{SCHEMA, connector};
use crate::support::{Bouncer, Database, Major, Options, PoolMode, Server, free_port, shared};

async fn shown(connector: &Connector, purpose: Purpose, name: &str) -> String {
    let session = connector.connect(purpose).await.unwrap();
    session.query_one(&format!("SHOW {name}"), &[]).await.unwrap().try_get(0).unwrap()
}

#[tokio::test]
async fn each_purpose_has_its_settings_on_old_and_new_servers() {
    for major in [Major::V15, Major::V18] {
        let database = Database::create(shared(major), SCHEMA).await;
        let connector = connector(database.dsn());
        for (purpose, name, value) in [
            (Purpose::Read, "default_transaction_read_only", "on"),
            (Purpose::Write, "default_transaction_read_only", "off"),
            (Purpose::Write, "synchronous_commit", "on"),
            (Purpose::Write, "application_name", "segue"),
            (Purpose::Own, "row_security", "off"),
            (Purpose::Own, "lock_timeout", "5s"),
            (Purpose::Own, "statement_timeout", "1min"),
            (Purpose::Read, "client_connection_check_interval", "5s"),
        ] {
            assert_eq!(shown(&connector, purpose, name).await, value, "{purpose:?} {name}");
        }
        let session = connector.connect(Purpose::Read).await.unwrap();
        let speaks = format!("PostgreSQL {}", major.number());
        assert_eq!(session.dialect().to_string(), speaks);
    }
}

#[tokio::test]
async fn a_transaction_pooler_is_refused_and_a_session_pooler_is_not() {
    let server = shared(Major::V15);
    let database = Database::create(server, SCHEMA).await;
    for (mode, refused) in [(PoolMode::Transaction, true), (PoolMode::Session, false)] {
        let bouncer = Bouncer::start(server, mode);
        let dsn = server.dsn_by_port(database.name(), bouncer.port());
        for purpose in [Purpose::Read, Purpose::Write, Purpose::Own] {
            match connector(&dsn).connect(purpose).await {
                Ok(_) => assert!(!refused, "{purpose:?} got through"),
                Err(fault) => {
                    assert!(refused, "{fault}");
                    assert_eq!(fault.kind, FaultKind::Refused);
                    assert_eq!(fault.reason, Reason::RefusedTransactionPooler);
                    assert!(fault.hint.contains("session"), "{}", fault.hint);
                }
            }
        }
    }
}

#[tokio::test]
async fn several_hosts_are_tried_in_order() {
    let server = shared(Major::V15);
    let database = Database::create(server, SCHEMA).await;
    let (dead, port) = (free_port(), server.port());
    let name = database.name();
    let dsn = format!("postgres://postgres@127.0.0.1:{dead},127.0.0.1:{port}/{name}");
    connector(&dsn).connect(Purpose::Read).await.unwrap();
    let dsn = format!("{dsn}?target_session_attrs=standby");
    let fault = connector(&dsn).connect(Purpose::Read).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.reason),
        (FaultKind::Unavailable, Reason::UnavailableTargetSession)
    );
    let dsn = dsn.replace("standby", "prefer-standby");
    connector(&dsn).connect(Purpose::Read).await.unwrap();
    let dsn = format!(
        "host={} port={port} user=postgres dbname={name} target_session_attrs=primary",
        server.socket_folder().display()
    );
    connector(&dsn).connect(Purpose::Write).await.unwrap();
}

#[tokio::test]
async fn an_own_session_left_in_a_transaction_is_not_handed_over() {
    let database = Database::create(shared(Major::V15), SCHEMA).await;
    let params = Params::new(Purpose::Own, 1, Duration::from_secs(5));
    let pool = Pool::new(connector(database.dsn()), params).unwrap();
    let pid = async || {
        let session = pool.get().await.unwrap();
        session
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .unwrap()
            .try_get::<_, i32>(0)
            .unwrap()
    };
    let first = pid().await;
    assert_eq!(pid().await, first);
    for left in ["BEGIN; INSERT INTO item VALUES (1)", "BEGIN; SELECT 1 / 0"] {
        let before = pid().await;
        let _ = pool.get().await.unwrap().batch_execute(left).await;
        assert_ne!(pid().await, before, "{left}");
    }
    assert_eq!(database.rows("SELECT count(*) FROM item").await, ["0"]);
}

fn openssl(folder: &std::path::Path, arguments: &str) {
    let run = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = run.expect("openssl can be run");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, a certificate of it for `localhost`, and another authority.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["ca", "other"] {
        openssl(
            path,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt"
            ),
        );
    }
    for (name, subject) in [("server", "localhost"), ("client", "postgres")] {
        openssl(
            path,
            &format!(
                "req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"
            ),
        );
        std::fs::write(path.join("ext"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
        openssl(
            path,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
            ),
        );
    }
    folder
}

#[tokio::test]
async fn tls_is_verified_as_asked_and_never_weakened() {
    let server = Server::start(
        Major::V15,
        &Options { password: Some("open sesame".into()), ..Options::default() },
    );
    let files = certificates();
    let path = |name: &str| files.path().join(name).display().to_string();
    let plain = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=postgres dbname=postgres password='open sesame'",
        server.port()
    );
    let connect =
        async |more: &str| connector(&format!("{plain} {more}")).connect(Purpose::Read).await;

    // Without TLS on the server: only the modes that allow it.
    connect("sslmode=prefer").await.unwrap();
    connect("sslmode=disable").await.unwrap();
    let full = format!("sslmode=verify-full sslrootcert={}", path("ca.crt"));
    for more in ["sslmode=require", full.as_str()] {
        let fault = connect(more).await.unwrap_err();
        assert!(fault.message.contains("does not support TLS"), "{fault}");
    }

    let set = |name: &str, value: &str| format!("ALTER SYSTEM SET {name} = '{value}'");
    let admin = connector(&plain).connect(Purpose::Write).await.unwrap();
    let data: String =
        admin.query_one("SHOW data_directory", &[]).await.unwrap().try_get(0).unwrap();
    for name in ["server.crt", "server.key", "ca.crt"] {
        let copied = std::path::Path::new(&data).join(name);
        std::fs::copy(files.path().join(name), &copied).unwrap();
        let like = format!("--reference={data}");
        for (program, arguments) in [("chown", vec![like.as_str()]), ("chmod", vec!["600"])] {
            assert!(Command::new(program).args(arguments).arg(&copied).status().unwrap().success());
        }
    }
    for sql in [set("ssl", "on"), set("ssl_ca_file", "ca.crt"), "SELECT pg_reload_conf()".into()] {
        admin.batch_execute(&sql).await.unwrap();
    }
    crate::support::eventually("the server has TLS", Duration::from_secs(10), async || {
        connect("sslmode=require").await.ok()
    })
    .await;

    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let by_ca = format!("sslmode=verify-ca sslrootcert={}", path("ca.crt"));
    let client = format!(
        "{full} channel_binding=require sslcert={} sslkey={}",
        path("client.crt"),
        path("client.key")
    );
    for more in [
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require channel_binding=require",
        &by_ca,
        &full,
        &client,
    ] {
        let session = connect(more).await.unwrap_or_else(|fault| panic!("{more}: {fault}"));
        assert!(
            session.query_one(encrypted, &[]).await.unwrap().try_get::<_, bool>(0).unwrap(),
            "{more}"
        );
        // A cancel request goes the same way.
        session.canceller().cancel().await.unwrap();
    }
    // Another authority, and another name.
    let other = full.replace("ca.crt", "other.crt");
    let fault = connect(&other).await.unwrap_err();
    assert!(fault.message.contains("UnknownIssuer"), "{fault}");
    let unverified = connect(&format!("sslmode=require sslrootcert={}", path("other.crt"))).await;
    assert!(unverified.is_err(), "a named root certificate is always used");
    let elsewhere = plain.replace("host=localhost", "host=elsewhere");
    let fault = connector(&format!("{elsewhere} {full}")).connect(Purpose::Read).await.unwrap_err();
    assert!(fault.message.contains("not valid for name"), "{fault}");
    connector(&format!("{elsewhere} {by_ca}")).connect(Purpose::Read).await.unwrap();
}

#[tokio::test]
async fn passwords_come_from_files_and_wrong_ones_say_so() {
    use std::os::unix::fs::PermissionsExt;
    let server =
        Server::start(Major::V15, &Options { password: Some("p:w".into()), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let base = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", server.port());
    let passfile =
        file("pass", "# mine\n127.0.0.1:1:*:*:no\n127.0.0.1:*:postgres:postgres:p\\:w\n");
    let word = file("word", "p:w\n");
    for more in [format!("passfile={passfile}"), format!("password_file={word}")] {
        connector(&format!("{base} {more}")).connect(Purpose::Read).await.unwrap();
    }
    let dsn =
        Dsn::parse(&base, &|name: &str| (name == "PGPASSWORD").then(|| "p:w".to_owned())).unwrap();
    Connector::new(Side::Source, dsn).unwrap().connect(Purpose::Read).await.unwrap();
    let fault =
        connector(&format!("{base} password=wrong")).connect(Purpose::Read).await.unwrap_err();
    assert_eq!((fault.kind, fault.sqlstate.as_str()), (FaultKind::Unavailable, "28P01"));
    assert!(!format!("{fault:?}").contains("wrong"), "{fault:?}");
}
