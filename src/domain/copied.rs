//! What the figures of the copy, and of its proof, are worth to a gate. Pure.

use std::time::Duration;

use crate::domain::backfill::{BackfillProgress, TableProgress};
use crate::domain::gate::{Progress, told};
use crate::domain::proof_age::ProofAges;
use crate::domain::table::TableName;

/// Tables that are named before the rest is counted.
const NAMED_MAX: usize = 3;

/// What is known of the copy of the history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CopyFigures {
    /// Every table of the migration, by its small id and its name on the source.
    pub migrated: Vec<(i32, String)>,
    /// What was begun, and how far it is.
    pub progress: BackfillProgress,
    /// Ids of tables whose copy was begun before capture was last switched off.
    pub overtaken: Vec<i32>,
    /// Ids of tables that were copied while nothing was captured.
    pub uncaptured: Vec<i32>,
}

/// What is known of the proof of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableProof {
    /// Its name on the source.
    pub table: TableName,
    /// Its chunks; none where it was never verified.
    pub chunks: u64,
    /// Of these, proven equal by a proof that is not void.
    pub proven: u64,
    /// Of the proven ones, written since.
    pub written: u64,
    /// Chunks in which a row differed when they were last read.
    pub differing: u64,
    /// A row that could not be read when it was last looked at, with the reason.
    pub unread: Option<String>,
    /// Since the chunk of the oldest proof was read.
    pub age: Duration,
    /// Why proofs of before were void, where they ever were.
    pub voided: String,
}

/// Whether the history is copied: every table of the migration, to its end, under one capture.
pub fn copied(figures: &CopyFigures) -> Progress {
    let CopyFigures { migrated, progress, overtaken, uncaptured } = figures;
    let named = |ids: &[i32]| {
        let those = migrated.iter().filter(|(id, _)| ids.contains(id));
        names(those.map(|(_, name)| name.clone()).collect())
    };
    if migrated.is_empty() {
        return Progress::Unknown("no table is part of the migration yet".to_owned());
    }
    let is_migrated = |id: &i32| migrated.iter().any(|(known, _)| known == id);
    if overtaken.iter().any(is_migrated) {
        return Progress::Failed(format!(
            "capture was switched off since the copy of {} was begun: begin it anew by \
             `segue backfill --empty-target`",
            named(overtaken)
        ));
    }
    let begun: Vec<&TableProgress> =
        progress.tables.iter().filter(|table| is_migrated(&table.table_id)).collect();
    if begun.is_empty() {
        return Progress::Unknown("no copy was begun on the target: `segue backfill`".to_owned());
    }
    let left: Vec<i32> = migrated
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| !begun.iter().any(|table| table.table_id == *id))
        .collect();
    let unfinished: Vec<&&TableProgress> = begun.iter().filter(|it| !it.is_done()).collect();
    let (done, all) = (begun.len() - unfinished.len(), migrated.len());
    let mut parts = vec![format!("{done} of {all} tables copied")];
    parts.extend(unfinished.iter().take(NAMED_MAX).map(|table| {
        format!("{}: {} of about {} rows", table.table, table.rows, table.rows_expected())
    }));
    if !left.is_empty() {
        parts.push(format!("not begun: {}", named(&left)));
    }
    if !unfinished.is_empty() && !progress.workers.iter().any(|worker| worker.alive) {
        parts.push("no process copies it".to_owned());
    }
    if !unfinished.is_empty() || !left.is_empty() {
        return Progress::Running(parts.join("; "));
    }
    if uncaptured.iter().any(is_migrated) {
        return Progress::Unknown(format!(
            "{} copied while nothing was captured: whether it was written before capture stood is \
             not known here",
            named(uncaptured)
        ));
    }
    let rows: u64 = begun.iter().map(|table| table.rows).sum();
    let failed: u64 = begun.iter().map(|table| table.failed).sum();
    let unfit = match failed {
        0 => String::new(),
        failed => format!(", {failed} of which did not fit: see `segue outbox --stuck`"),
    };
    Progress::Done(format!("{all} tables, {rows} rows{unfit}"))
}

/// Whether every chunk of every table of the migration was proven equal, and not too long ago: a
/// proof says nothing of what was changed since without being captured. What was captured since is
/// the outbox's, and looked at again by whoever verifies next; it does not undo the proof.
pub fn proven(tables: &[TableProof], ages: &ProofAges) -> Progress {
    let sum = |of: fn(&TableProof) -> u64| tables.iter().map(of).sum::<u64>();
    let (chunks, proven) = (sum(|it| it.chunks), sum(|it| it.proven));
    let named = |of: fn(&TableProof) -> bool| {
        names(tables.iter().filter(|it| of(it)).map(|it| it.table.to_string()).collect())
    };
    let differing = sum(|it| it.differing);
    if differing > 0 {
        return Progress::Failed(format!(
            "{differing} chunks differed when they were last read, of {}: see `segue verify`",
            named(|it| it.differing > 0)
        ));
    }
    if let Some((table, why)) = tables.iter().find_map(|it| Some((&it.table, it.unread.as_ref()?)))
    {
        return Progress::Failed(format!(
            "a row of {table} could not be read, so that it is not verified: {why}; see \
             `segue verify`"
        ));
    }
    if chunks == 0 {
        return Progress::Unknown("nothing was verified yet: `segue verify`".to_owned());
    }
    let is_open: fn(&TableProof) -> bool = |it| it.chunks == 0 || it.proven < it.chunks;
    if tables.iter().any(is_open) {
        let voided = tables.iter().filter(|it| is_open(it) && !it.voided.is_empty());
        let voided: Vec<String> = voided
            .map(|it| format!("the proofs of {} are void: {}", it.table, it.voided))
            .collect();
        let why = if voided.is_empty() { String::new() } else { format!("; {}", names(voided)) };
        return Progress::Running(format!(
            "{proven} of {chunks} chunks proven; not all of {}{why}",
            named(is_open)
        ));
    }
    let is_stale = |it: &&TableProof| it.age > ages.max_of(&it.table);
    let mut stale: Vec<&TableProof> = tables.iter().filter(is_stale).collect();
    if !stale.is_empty() {
        stale.sort_by_key(|it| std::cmp::Reverse(it.age));
        let old = |it: &&TableProof| {
            let max = ages.max_of(&it.table);
            format!("{} is {} old, and may be {}", it.table, told(it.age), told(max))
        };
        return Progress::Running(format!(
            "the oldest proof of {}: `segue verify` proves again (gates.proof_max_age; verify.sweep \
             keeps proofs fresh)",
            names(stale.iter().map(old).collect())
        ));
    }
    let age = tables.iter().map(|it| it.age).max().unwrap_or_default();
    Progress::Done(format!(
        "{chunks} chunks of {} tables, {} of them written since; the oldest proof is {} old",
        tables.len(),
        sum(|it| it.written),
        told(age)
    ))
}

fn names(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backfill::WorkerProgress;
    use crate::domain::pattern::TablePattern;

    const HOUR: Duration = Duration::from_secs(3600);

    fn table(id: i32, chunks: u64, done: u64) -> TableProgress {
        TableProgress {
            table_id: id,
            table: format!("app.t{id}"),
            rows_estimated: 1000,
            rows: done * 100,
            bytes: 0,
            reconciled: 0,
            failed: 0,
            chunks,
            chunks_done: done,
            chunks_claimed: 0,
            split_done: true,
            last_error: String::new(),
        }
    }

    fn figures(tables: Vec<TableProgress>) -> CopyFigures {
        let migrated = (1..=2).map(|id| (id, format!("app.t{id}"))).collect();
        let progress = BackfillProgress { tables, workers: Vec::new() };
        CopyFigures { migrated, progress, ..CopyFigures::default() }
    }

    #[test]
    fn a_copy_is_complete_when_every_migrated_table_is() {
        let done = || figures(vec![table(1, 3, 3), table(2, 1, 1)]);
        assert_eq!(copied(&done()), Progress::Done("2 tables, 400 rows".to_owned()));
        // What was begun is done, and the other was never begun: not complete.
        let one = copied(&figures(vec![table(1, 3, 3)]));
        let Progress::Running(how_far) = &one else { panic!("{one:?}") };
        assert_eq!(how_far, "1 of 2 tables copied; not begun: app.t2");
        let half = copied(&figures(vec![table(1, 3, 2), table(2, 1, 1)]));
        let Progress::Running(how_far) = &half else { panic!("{half:?}") };
        assert!(how_far.contains("app.t1: 200 of about 1000 rows"), "{how_far}");
        assert!(how_far.contains("no process copies it"), "{how_far}");
        let mut uncut = figures(vec![table(1, 3, 3), table(2, 1, 1)]);
        uncut.progress.tables[0].split_done = false;
        uncut.progress.workers.push(WorkerProgress {
            host: String::new(),
            workers: 1,
            alive: true,
            throttled: String::new(),
            share: 1.0,
        });
        let uncut = copied(&uncut);
        let Progress::Running(how_far) = &uncut else { panic!("{uncut:?}") };
        assert!(!how_far.contains("nobody"), "{how_far}");
        // A table that is no part of the migration any more counts neither way.
        let mut more = done();
        more.progress.tables.push(table(3, 5, 0));
        assert!(matches!(copied(&more), Progress::Done(_)));
    }

    #[test]
    fn a_copy_that_nothing_stands_for_is_not_complete() {
        assert!(matches!(copied(&CopyFigures::default()), Progress::Unknown(_)));
        assert!(matches!(copied(&figures(Vec::new())), Progress::Unknown(_)));
        let done = || figures(vec![table(1, 3, 3), table(2, 1, 1)]);
        let overtaken = CopyFigures { overtaken: vec![2], ..done() };
        let Progress::Failed(why) = copied(&overtaken) else { panic!("{overtaken:?}") };
        assert!(why.contains("the copy of app.t2 was begun"), "{why}");
        assert!(matches!(
            copied(&CopyFigures { uncaptured: vec![1], ..done() }),
            Progress::Unknown(_)
        ));
        let mut unfit = done();
        unfit.progress.tables[0].failed = 5;
        let Progress::Done(found) = copied(&unfit) else { panic!("{unfit:?}") };
        assert_eq!(found, "2 tables, 400 rows, 5 of which did not fit: see `segue outbox --stuck`");
    }

    #[test]
    fn every_chunk_of_every_table_must_be_proven() {
        let proof = |chunks, proven| TableProof {
            unread: None,
            table: TableName::new("app", format!("t{chunks}")),
            chunks,
            proven,
            written: 0,
            differing: 0,
            age: HOUR,
            voided: String::new(),
        };
        let proven = |tables: &[TableProof]| proven(tables, &ages());
        let all = [proof(3, 3), TableProof { written: 1, ..proof(2, 2) }];
        let found = "5 chunks of 2 tables, 1 of them written since; the oldest proof is 1 h old";
        assert_eq!(proven(&all), Progress::Done(found.to_owned()));
        let some = [proof(3, 3), proof(2, 1)];
        let found = "4 of 5 chunks proven; not all of app.t2";
        assert_eq!(proven(&some), Progress::Running(found.to_owned()));
        assert!(matches!(proven(&[proof(3, 3), proof(0, 0)]), Progress::Running(_)));
        let voided = "on the source triggers were switched off".to_owned();
        let Progress::Running(found) = proven(&[TableProof { voided, ..proof(2, 1) }]) else {
            panic!("not refused")
        };
        assert!(found.contains("app.t2 are void: on the source triggers were"), "{found}");
        assert!(matches!(proven(&[proof(0, 0)]), Progress::Unknown(_)));
        let unread = Some("key 5: on the shadow: broken".to_owned());
        let Progress::Failed(why) = proven(&[proof(3, 3), TableProof { unread, ..proof(2, 1) }])
        else {
            panic!("a row that cannot be read is passed over");
        };
        assert!(
            why.contains("a row of app.t2 could not be read") && why.contains("key 5"),
            "{why}"
        );
        let differs = [proof(3, 3), TableProof { differing: 1, ..proof(2, 1) }];
        let Progress::Failed(why) = proven(&differs) else { panic!("{differs:?}") };
        assert!(why.contains("1 chunks differed when they were last read, of app.t2"), "{why}");
    }

    fn ages() -> ProofAges {
        ProofAges { max: HOUR * 24, of: Vec::new() }
    }

    #[test]
    fn a_proof_that_is_too_old_is_none_and_its_table_is_named() {
        let proof = |name: &str, hours| TableProof {
            unread: None,
            table: TableName::new("app", name),
            chunks: 1,
            proven: 1,
            written: 0,
            differing: 0,
            age: HOUR * hours,
            voided: String::new(),
        };
        let tables = [proof("audit", 49), proof("orders", 1)];
        let Progress::Running(found) = proven(&tables, &ages()) else { panic!("not refused") };
        assert!(found.contains("app.audit is 2 d 1 h old, and may be 1 d"), "{found}");
        assert!(!found.contains("app.orders"), "{found}");
        let of = vec![(TablePattern::Table(TableName::new("app", "audit")), HOUR * 50)];
        let ages = ProofAges { of, ..ages() };
        assert!(matches!(proven(&tables, &ages), Progress::Done(_)));
        // To the second: at the limit it still counts.
        assert!(matches!(proven(&[proof("orders", 24)], &ages), Progress::Done(_)));
    }
}
