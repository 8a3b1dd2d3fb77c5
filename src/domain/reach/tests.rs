//! Catalogues made by hand; real ones are in `tests/routing`.

use std::sync::Arc;

use super::*;
use crate::domain::reason::Reason;
use crate::domain::table::TableName;
use crate::statement::{analyse, names};

fn table(registered: bool) -> Relation {
    Relation {
        kind: RelationKind::Table,
        of_extension: false,
        belongs_to: None,
        registered,
        captured: registered,
        copied: registered,
        names: Ok(Arc::default()),
        on_write: OnWrite::default(),
    }
}

fn view(definition: &str) -> Relation {
    let names = names::of_sql(definition).map(Arc::new).ok_or(());
    Relation { kind: RelationKind::View, names, ..table(false) }
}

fn function(volatile: bool, body: Body) -> Function {
    Function { schema: "public".to_owned(), arguments: (0, 0), volatile, body }
}

fn sql(body: &str) -> Body {
    Body::Names(Arc::new(names::of_sql(body).unwrap()), OwnPath(false))
}

fn words(body: &str) -> Body {
    Body::Names(Arc::new(names::of_words(body)), OwnPath(false))
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.search_path = vec![SYSTEM.to_owned(), "public".to_owned()];
    catalogue.lists_all_functions = true;
    catalogue.operators = [("=".to_owned(), false)].into();
    let public = |name: &str| TableName::new("public", name);
    catalogue.add_relation(public("good"), table(true));
    catalogue.add_relation(public("other"), table(true));
    catalogue.add_relation(public("nokey"), table(false));
    catalogue.add_relation(TableName::new("side", "good"), table(false));
    catalogue.add_relation(public("late"), Relation { copied: false, ..table(true) });
    catalogue.add_relation(public("bare"), Relation { captured: false, ..table(true) });
    catalogue
        .add_relation(public("ids"), Relation { kind: RelationKind::Sequence, ..table(false) });
    catalogue.add_relation(public("of_good"), view("SELECT id FROM public.good"));
    catalogue.add_relation(public("of_both"), view("SELECT * FROM public.of_good, public.nokey"));
    catalogue.add_relation(public("dicey"), view("SELECT random() FROM public.good"));
    catalogue.add_relation(public("strange"), Relation { names: Err(()), ..view("SELECT 1") });
    let built_in = |volatile| Function {
        schema: SYSTEM.to_owned(),
        arguments: (0, usize::MAX),
        volatile,
        body: Body::Nothing,
    };
    for (name, volatile) in [
        ("count", false),
        ("lower", false),
        ("random", true),
        ("nextval", true),
        ("pg_notify", true),
    ] {
        catalogue.add_function(name.to_owned(), built_in(volatile));
    }
    for (name, volatile, body) in [
        ("reads_nokey", false, words("BEGIN RETURN (SELECT count(*) FROM nokey); END")),
        ("in_sql", true, sql("SELECT count(*) FROM good")),
        ("writes", true, sql("INSERT INTO good VALUES (1)")),
        ("tells", false, words("BEGIN PERFORM pg_notify('a', 'b'); END")),
        ("made_up", false, words("BEGIN EXECUTE 'SELECT 1'; END")),
        ("in_c", false, Body::Unknown),
    ] {
        catalogue.add_function(name.to_owned(), function(volatile, body));
    }
    catalogue
}

fn reach(text: &str, phase: Phase, policy: &Policy) -> Reach {
    let both = Some(Arc::new(catalogue()));
    let catalogues = Sides { source: both.clone(), target: both };
    Reach::of(&analyse(text).unwrap().named, phase, &catalogues, policy)
}

fn route(text: &str, phase: Phase) -> Result<Route, SqlFault> {
    reach(text, phase, &Policy::default()).route(ControlState { epoch: 1, phase }, true)
}

#[test]
fn only_what_is_all_of_the_migration_is_shifted() {
    for sql in [
        "SELECT * FROM good",
        "SELECT lower(id) FROM public.good JOIN other USING (id)",
        "SELECT * FROM of_good",
        "WITH nokey AS (SELECT * FROM good) SELECT * FROM nokey",
        "SELECT in_sql()",
    ] {
        let route = route(sql, Phase::Shift).unwrap();
        assert!(route.shifts && route.unsampled.is_none(), "{sql}: {route:?}");
    }
    for (sql, unsampled) in [
        ("SELECT * FROM nokey", Some("not_migrated")),
        ("SELECT * FROM side.good", Some("not_migrated")),
        ("SELECT * FROM of_both", Some("not_migrated")),
        ("SELECT * FROM good WHERE id IN (TABLE nokey)", Some("not_migrated")),
        ("SELECT reads_nokey()", Some("not_migrated")),
        ("SELECT * FROM strange", Some("not_migrated")),
        ("SELECT made_up()", Some("not_migrated")),
        ("SELECT in_c()", Some("not_migrated")),
        ("SELECT * FROM unheard_of", Some("not_migrated")),
        ("SELECT last_value FROM ids", Some("of_primary")),
        ("SELECT * FROM bare", Some("not_migrated")),
        ("SELECT * FROM good WHERE id = random()", Some("volatile_function")),
        ("SELECT * FROM dicey", Some("volatile_function")),
        ("SELECT tells() FROM good", Some("volatile_function")),
        ("SELECT writes()", Some("volatile_function")),
        ("SELECT * FROM good WHERE id <+> 1", Some("not_migrated")),
        ("SELECT unheard_of(id) FROM good", Some("not_migrated")),
        // These are compared all the same.
        ("SELECT * FROM late", None),
        ("SELECT 1", None),
        ("SELECT lower('A')", None),
    ] {
        let route = route(sql, Phase::Shift).unwrap();
        assert_eq!((route.side, route.shifts), (Side::Source, false), "{sql}: {route:?}");
        assert_eq!(route.unsampled, unsampled, "{sql}");
    }
}

#[test]
fn a_function_may_run_twice_where_the_configuration_says_so() {
    let policy = Policy {
        repeatable: ["random".to_owned(), "public.tells".to_owned()].into(),
        ..Policy::default()
    };
    for sql in ["SELECT * FROM dicey", "SELECT tells() FROM good"] {
        assert_eq!(reach(sql, Phase::Shift, &policy).once, None, "{sql}");
    }
}

#[test]
fn when_the_target_is_the_primary_the_owner_answers_and_both_are_refused() {
    let side = |sql: &str| route(sql, Phase::Reversed).map(|route| route.side);
    for sql in ["SELECT * FROM nokey", "INSERT INTO nokey VALUES (1)", "SELECT reads_nokey()"] {
        assert_eq!(side(sql).unwrap(), Side::Source, "{sql}");
    }
    for sql in ["SELECT * FROM good", "SELECT * FROM bare", "SELECT 1", "SELECT nextval('ids')"] {
        assert_eq!(side(sql).unwrap(), Side::Target, "{sql}");
    }
    for (sql, reason) in [
        ("SELECT * FROM of_both", Reason::RefusedBothSides),
        ("INSERT INTO good SELECT * FROM nokey", Reason::RefusedBothSides),
        ("INSERT INTO nokey SELECT nextval('ids')", Reason::RefusedBothSides),
        (
            "WITH nokey AS (SELECT 1) INSERT INTO nokey SELECT id FROM good",
            Reason::RefusedBothSides,
        ),
        ("SELECT made_up()", Reason::RefusedUnknownFunction),
        ("DO $$ BEGIN EXECUTE 'x'; END $$", Reason::RefusedUnknownFunction),
    ] {
        let refused = side(sql).unwrap_err();
        assert_eq!(refused.reason, reason, "{sql}");
        assert!(!refused.hint.is_empty());
    }
}

#[test]
fn nothing_is_guessed_before_a_catalogue_was_read() {
    let named = analyse("SELECT * FROM good").unwrap().named;
    let none = Sides { source: None, target: None };
    let control = |phase| ControlState { epoch: 1, phase };
    let reach = Reach::of(&named, Phase::Shift, &none, &Policy::default());
    let route = reach.route(control(Phase::Shift), true).unwrap();
    assert_eq!((route.side, route.shifts), (Side::Source, false));
    let reach = Reach::of(&named, Phase::Reversed, &none, &Policy::default());
    let refused = reach.route(control(Phase::Reversed), true).unwrap_err();
    assert_eq!((refused.reason, refused.retryable), (Reason::UnavailableCatalogue, true));
}

#[test]
fn a_table_that_the_source_has_registered_is_not_left_behind_by_an_older_look_at_the_target() {
    let mut source = catalogue();
    source.registered_there = [TableName::new("public", "good")].into();
    let mut target = catalogue();
    target.add_relation(TableName::new("public", "good"), table(false));
    target.add_relation(TableName::new("public", "unknown"), table(false));
    let catalogues = Sides { source: Some(Arc::new(source)), target: Some(Arc::new(target)) };
    let control = ControlState { epoch: 1, phase: Phase::Reversed };
    let side = |text: &str| {
        let named = &analyse(text).unwrap().named;
        let reach = Reach::of(named, control.phase, &catalogues, &Policy::default());
        reach.route(control, true).unwrap().side
    };
    assert_eq!(side("UPDATE good SET id = 1"), Side::Target);
    assert_eq!(side("UPDATE nokey SET id = 1"), Side::Source);
}

#[test]
fn where_the_search_path_may_have_been_changed_a_name_counts_as_all_of_that_name() {
    let both = Some(Arc::new(catalogue()));
    let catalogues = Sides { source: both.clone(), target: both };
    let policy = Policy::default();
    let control = ControlState { epoch: 1, phase: Phase::Reversed };
    let reach = |text: &str| {
        Reach::in_any_schema(&analyse(text).unwrap().named, control.phase, &catalogues, &policy)
    };
    for ambiguous in ["SELECT * FROM good", "INSERT INTO good VALUES (1)", "SELECT in_sql()"] {
        let refused = reach(ambiguous).route(control, true).unwrap_err();
        assert_eq!(refused.reason, Reason::RefusedBothSides, "{ambiguous}");
        assert!(refused.message.contains("side.good"), "{refused}");
        assert!(refused.hint.contains("with its schema"), "{}", refused.hint);
    }
    for (sql, side) in [
        ("SELECT * FROM public.good", Side::Target),
        ("SELECT * FROM other", Side::Target),
        ("SELECT count(*) FROM of_good", Side::Target),
        ("SELECT * FROM side.good", Side::Source),
        ("SELECT * FROM nokey", Side::Source),
    ] {
        assert_eq!(reach(sql).route(control, true).unwrap().side, side, "{sql}");
    }
    // What nobody has heard of is no table of the migration.
    let unheard_of = reach("SELECT * FROM unheard_of");
    assert!(unheard_of.missing && !unheard_of.pure, "{unheard_of:?}");
    assert!(!reach("SELECT relname FROM pg_class").missing);
}

#[test]
fn what_may_change_the_search_path_is_told() {
    let mut catalogue = catalogue();
    let own_path = |body: &str| {
        let Body::Names(names, _) = words(body) else { unreachable!() };
        Body::Names(names, OwnPath(true))
    };
    for (name, body) in [
        ("in_words", words("BEGIN SET LOCAL search_path = side; END")),
        ("in_query", sql("SELECT set_config('search_path', 'side', true)")),
        ("tenant", sql("SELECT set_config('app.tenant', '5', true)")),
        ("keeps", own_path("BEGIN SET LOCAL search_path = side; EXECUTE 'SELECT 1'; END")),
        ("through", sql("SELECT in_words()")),
    ] {
        catalogue.add_function(name.to_owned(), function(true, body));
    }
    for name in ["set_config", "concat"] {
        let body = Body::Nothing;
        let built_in = Function { schema: SYSTEM.to_owned(), ..function(false, body) };
        catalogue.add_function(name.to_owned(), built_in);
    }
    let both = Some(Arc::new(catalogue));
    let catalogues = Sides { source: both.clone(), target: both };
    let sets = |sql: &str| {
        let named = analyse(sql).unwrap().named;
        Reach::of(&named, Phase::Shift, &catalogues, &Policy::default())
    };
    for sql in [
        "SET LOCAL search_path TO side, public",
        "SET LOCAL SCHEMA 'side'",
        "SET LOCAL ROLE somebody",
        "SELECT set_config('Search_Path', 'side', true)",
        "SELECT set_config('role', 'somebody', true) FROM good",
        "SELECT set_config(concat('search', '_path'), 'side', true)",
        "SELECT in_words()",
        "SELECT in_query()",
        "SELECT through()",
        "SELECT made_up()",
        "SELECT in_c()",
        "DO 'BEGIN PERFORM set_config(''search_path'', ''side'', true); END'",
    ] {
        assert!(sets(sql).sets_path, "{sql}");
    }
    for sql in [
        "SELECT * FROM good",
        "SET LOCAL work_mem = '1MB'",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET TRANSACTION READ ONLY",
        "SELECT set_config('app.tenant', '5', true)",
        "SELECT tenant()",
        "SELECT keeps()",
        "SELECT reads_nokey()",
    ] {
        assert!(!sets(sql).sets_path, "{sql}");
    }
    // A function that comes after the change in the same statement sees it.
    let after = sets("SELECT set_config('search_path', 'side', true), in_sql()");
    assert!(after.owned.source.is_some() && after.migrated.is_some(), "{after:?}");
}
