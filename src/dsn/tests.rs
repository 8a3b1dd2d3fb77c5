use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Variables and files in a map; a name with a slash is a file's.
#[derive(Default)]
struct Around(BTreeMap<String, String>);

impl Around {
    fn with(mut self, name: &str, text: &str) -> Self {
        self.0.insert(name.to_owned(), text.to_owned());
        self
    }
}

impl Surroundings for Around {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn text(&self, path: &Path) -> Result<Option<String>, String> {
        Ok(self.0.get(path.to_str().unwrap()).cloned())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path.to_str().unwrap())
    }
}

fn words(text: &str) -> Vec<(String, String)> {
    let words = Words::parse(text).unwrap();
    words.iter().map(|(word, value)| (word.to_owned(), value.to_owned())).collect()
}

fn fault(text: &str, around: &Around) -> String {
    Dsn::parse(text, around).unwrap_err().to_string()
}

#[test]
fn a_url_and_its_words_say_the_same() {
    let url = "postgresql://app:s%20e%27c@a:5433,[::1]:5434/shop?sslmode=require";
    let plain =
        r"host=a,::1 port=5433,5434 user = app password='s e\'c' dbname=shop sslmode=require";
    assert_eq!(words(url), words(plain));
    let socket = [("dbname".into(), "shop".into()), ("host".into(), "/run/pg".into())];
    assert_eq!(words("postgres://%2Frun%2Fpg/shop"), socket);
    assert_eq!(words("postgres://h/?ssl=true")[1], ("sslmode".into(), "require".into()));
}

#[test]
fn faults_do_not_quote_the_string() {
    for text in ["secret", "password='secret", "password=secret colour=red", "postgres://a%zz/"] {
        let fault = Words::parse(text).err().unwrap().to_string();
        assert!(!fault.contains("secret"), "{fault}");
        assert_eq!(redacted(text), "[redacted]");
    }
    let shown = redacted("postgres://u:secret@h/d");
    assert_eq!(shown, "dbname=d host=h password=[redacted] user=u");
    let dsn = Dsn::parse("postgres://u:secret@h/d", &|_: &str| None).unwrap();
    assert!(!format!("{dsn:?} {dsn}").contains("secret"));
}

#[test]
fn each_variable_is_read_below_the_string() {
    let values = [
        ("host", "e"),
        ("hostaddr", "::2"),
        ("port", "7"),
        ("dbname", "d"),
        ("user", "v"),
        ("password", "p"),
        ("passfile", "/p"),
        ("sslmode", "verify-ca"),
        ("sslrootcert", "/r"),
        ("sslcert", "/c"),
        ("sslkey", "/k"),
        ("channel_binding", "require"),
        ("target_session_attrs", "primary"),
        ("load_balance_hosts", "disable"),
        ("connect_timeout", "9"),
        ("options", "-c a=b"),
        ("application_name", "n"),
    ];
    for variable in VARIABLES {
        let Some(word) = variable.word else {
            let found = fault("host=h user=u", &Around::default().with(variable.name, "1"));
            assert!(found.starts_with(variable.name), "{found}");
            continue;
        };
        let (_, value) = values.iter().find(|(known, _)| *known == word).unwrap();
        let around = Around::default().with(variable.name, value);
        let mut read = Words::default();
        read.add_variables(&around).unwrap();
        assert_eq!(read.get(word), Some(*value), "{}", variable.name);
        let mut said = Words::default();
        said.set(word, "other");
        said.add_variables(&around).unwrap();
        assert_eq!(said.get(word), Some("other"), "{}", variable.name);
    }
    let all = VARIABLES.iter().filter(|it| it.word.is_some()).fold(Around::default(), |all, it| {
        let (_, value) = values.iter().find(|(known, _)| Some(*known) == it.word).unwrap();
        all.with(it.name, value)
    });
    let dsn = Dsn::parse("", &all).unwrap();
    assert_eq!(dsn.to_string(), "v@e:7/d");
    assert_eq!(dsn.hosts[0].address.as_deref(), Some("::2"));
    assert_eq!(dsn.ssl_root, RootCertificates::File("/r".into()));
    assert_eq!(dsn.connect_timeout, Duration::from_secs(9));
    assert_eq!(dsn.target_session, TargetSession::Primary);
}

#[test]
fn a_service_goes_between_the_string_and_the_variables() {
    let file = "# of the house\n[old]\nhost=no\n[shop]\nhost=s\nport=1\nport=2\n\n[new]\nhost=no\n";
    let around =
        || Around::default().with("HOME", "/home/u").with("/home/u/.pg_service.conf", file);
    let dsn = Dsn::parse("service=shop user=u port=3", &around().with("PGHOST", "e")).unwrap();
    assert_eq!(dsn.places(), "s:3");
    let dsn =
        Dsn::parse("user=u", &around().with("PGSERVICE", "shop").with("PGUSER", "v")).unwrap();
    assert_eq!(dsn.to_string(), "u@s:1/u");
    // The user's file has no such service: the system's is asked.
    let system =
        around().with("PGSYSCONFDIR", "/etc/x").with("/etc/x/pg_service.conf", "[x]\nhost=y");
    assert_eq!(Dsn::parse("service=x user=u", &system).unwrap().places(), "y:5432");
    let named = around().with("PGSERVICEFILE", "/f").with("/f", "[shop]\nhost=f");
    assert_eq!(Dsn::parse("service=shop user=u", &named).unwrap().places(), "f:5432");
    let named = around().with("/g", "[shop]\nhost=g");
    let dsn = Dsn::parse("service=shop servicefile=/g user=u", &named).unwrap();
    assert_eq!(dsn.places(), "g:5432");
}

#[test]
fn what_is_wrong_with_a_service_is_said() {
    let named = |text: &str| Around::default().with("PGSERVICEFILE", "/f").with("/f", text);
    for (around, wanted) in [
        (named("[other]\nhost=h"), "no service file defines the service \"s\""),
        (Around::default().with("PGSERVICEFILE", "/f"), "there is no service file /f"),
        (named("[s\nhost=h"), "/f, line 1: a service's name is not closed"),
        (named("[s]\nhost"), "/f, line 2: a line has no '='"),
        (named("[s]\nservice=t"), "/f, line 2: a service may not refer to another one"),
        (named("[s]\nldap://x"), "/f, line 2: services from an LDAP server"),
        (named("[s]\ncolour=red"), "\"colour\", which segue does not know"),
    ] {
        let found = fault("service=s user=u", &around);
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn certificates_of_the_home_directory_are_taken_where_none_is_named() {
    let home = || Around::default().with("HOME", "/h");
    let rooted = || home().with("/h/.postgresql/root.crt", "");
    let root = |mode: &str, around| {
        Dsn::parse(&format!("user=u sslmode={mode}"), &around).map(|dsn| dsn.ssl_root)
    };
    let file = RootCertificates::File("/h/.postgresql/root.crt".into());
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(root(mode, rooted()).unwrap(), file, "{mode}");
    }
    for (mode, around) in [("prefer", rooted()), ("require", home())] {
        assert_eq!(root(mode, around).unwrap(), RootCertificates::Unset, "{mode}");
    }
    for mode in ["verify-ca", "verify-full"] {
        assert!(root(mode, home()).unwrap_err().to_string().contains("add sslrootcert=FILE"));
    }
    let client =
        home().with("/h/.postgresql/postgresql.crt", "").with("/h/.postgresql/postgresql.key", "");
    let pair = ("/h/.postgresql/postgresql.crt".into(), "/h/.postgresql/postgresql.key".into());
    assert_eq!(Dsn::parse("user=u", &client).unwrap().ssl_client, Some(pair));
    let half = home().with("/h/.postgresql/postgresql.crt", "");
    assert!(fault("user=u", &half).contains("set sslkey"));
}

#[test]
fn the_passfile_is_the_home_directorys_unless_one_is_named() {
    let home = Around::default().with("HOME", "/h");
    assert_eq!(Dsn::parse("user=u", &home).unwrap().passfile, Some("/h/.pgpass".into()));
    let named = Around::default().with("HOME", "/h").with("PGPASSFILE", "/p");
    assert_eq!(Dsn::parse("user=u", &named).unwrap().passfile, Some("/p".into()));
    let lines = "# mine\nh:1:*:*:no\nh:*:d:u:p\\:w\n*:*:*:*:last\n";
    assert_eq!(password_for(lines, "h", 2, "d", "u").as_deref(), Some("p:w"));
    assert_eq!(password_for(lines, "x", 2, "d", "u").as_deref(), Some("last"));
    assert_eq!(password_for("h:1:d:u:p", "h", 2, "d", "u"), None);
}

#[test]
fn what_cannot_be_used_is_refused_by_its_word() {
    for (text, word, named) in [
        ("host=h", "user", "no user is named"),
        ("user=u sslmode=allow", "sslmode", "sslmode=allow"),
        ("user=u sslmode=verfy", "sslmode", "is not one of disable, prefer"),
        ("user=u sslmode=require sslrootcert=system", "sslrootcert", "verify-full"),
        ("user=u sslcert=c", "sslkey", "set sslkey"),
        ("user=u sslkey=k", "sslcert", "set sslcert"),
        ("user=u port=99999", "port", "between 1 and 65535"),
        ("user=u port=0", "port", "between 1 and 65535"),
        ("user=u host=a,b port=1,2,3", "port", "3 ports for 2 hosts"),
        ("user=u host=a,b hostaddr=::1", "hostaddr", "1 addresses for 2 hosts"),
        ("user=u channel_binding=maybe", "channel_binding", "disable, prefer, require"),
        ("user=u target_session_attrs=bogus", "target_session_attrs", "any, read-write"),
        ("user=u load_balance_hosts=random", "load_balance_hosts", "must be disable"),
        ("user=u connect_timeout=soon", "connect_timeout", "number of seconds"),
    ] {
        let error = Dsn::parse(text, &|_: &str| None).unwrap_err();
        assert_eq!(error.word, Some(word), "{text}");
        assert!(error.message.contains(named), "{text}: {error}");
    }
    let all = Words::parse("sslmode=x port=y channel_binding=z").unwrap();
    assert_eq!(all.checked(&|_: &str| None).unwrap_err().len(), 4, "and no user");
}
