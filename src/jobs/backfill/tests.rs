use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::*;
use crate::domain::backfill::{TablePlan, Way};
use crate::domain::fault::FaultKind;
use crate::domain::key::KeyValues;
use crate::domain::key_range::KeyRange;
use crate::domain::reason::Reason;
use crate::domain::table::{TableMapping, TableName};
use crate::ports::backfill::{ChunkStore, CopyHalt, KeySplitter, Meter, Next, SourceLook};

/// Keys 1 to `0`.
struct Numbers(u64);

impl KeySplitter for Numbers {
    fn bounds<'a>(
        &'a self,
        _: i32,
        range: &'a KeyRange,
        rows: u64,
        bounds_max: usize,
    ) -> BoxFuture<'a, Result<Vec<KeyValues>, SqlFault>> {
        let after: u64 = range.after.as_ref().map_or(0, |key| key[0].parse().unwrap());
        let keys = (1..).map(move |n| after + n * rows).take_while(|key| *key <= self.0);
        let keys = keys.take(bounds_max).map(|key| vec![key.to_string()]).collect();
        async move { Ok(keys) }.boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        async { Ok(OutboxMark(7)) }.boxed()
    }
}

/// Answers what it is told to, then that all is well, and remembers what it was asked.
#[derive(Default)]
struct Copier {
    answers: Mutex<VecDeque<CopyHalt>>,
    asked: Mutex<Vec<Chunk>>,
    at_once: AtomicU32,
    most: AtomicU32,
}

impl ChunkCopier for Copier {
    fn copy<'a>(
        &'a self,
        chunk: &'a Chunk,
        meter: &'a dyn Meter,
    ) -> BoxFuture<'a, Result<Copied, CopyHalt>> {
        async move {
            self.asked.lock().unwrap().push(chunk.clone());
            self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            meter.pass(10, 1000).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            match self.answers.lock().unwrap().pop_front() {
                Some(halt) => Err(halt),
                None => Ok(Copied {
                    way: Way::Straight,
                    rows: 10,
                    bytes: 1000,
                    reconciled: 0,
                    failed: 0,
                }),
            }
        }
        .boxed()
    }
}

struct Calm;

impl SourceWatch for Calm {
    fn look(&self, _: Option<OutboxMark>) -> BoxFuture<'_, Result<SourceLook, SqlFault>> {
        async { Ok(SourceLook::default()) }.boxed()
    }

    fn release(&self) -> BoxFuture<'_, Result<(), SqlFault>> {
        async { Ok(()) }.boxed()
    }
}

fn table(id: i32, place: i32) -> TablePlan {
    let name = TableName::new("app", format!("t{id}"));
    TablePlan {
        table_id: id,
        mapping: TableMapping { source: name.clone(), target: name },
        key: vec!["id".to_owned()],
        place,
        chunk_rows: 10,
        rows_estimated: 100,
        bytes_estimated: 1000,
    }
}

fn limits() -> ThrottleLimits {
    let limit = Duration::from_secs(1);
    ThrottleLimits { source_latency: limit, outbox_age: limit, target_latency: limit }
}

fn params() -> Params {
    Params {
        backoff: (Duration::from_millis(1), Duration::from_millis(2)),
        ..Params::new(3, limits(), Arc::new(|| 0.5))
    }
}

fn open(path: &std::path::Path) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(path, "a to b", Some(0), 3, Arc::new(Numbers(105)))
}

struct World {
    folder: tempfile::TempDir,
    copier: Arc<Copier>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = CopyHalt>) -> Self {
        let copier =
            Copier { answers: Mutex::new(answers.into_iter().collect()), ..Copier::default() };
        Self {
            folder: tempfile::tempdir().unwrap(),
            copier: Arc::new(copier),
            events: Arc::default(),
        }
    }

    async fn run(&self, params: Params, stop: CancellationToken) -> Result<Ending, BackfillError> {
        let store = Arc::new(open(&self.folder.path().join("state")).unwrap());
        store.plan(&[table(1, 1), table(2, 0)]).await.unwrap();
        let events = Arc::clone(&self.events);
        let parts = Parts {
            store,
            copier: Arc::clone(&self.copier) as _,
            watch: Arc::new(Calm),
            observer: Arc::new(move |event: &Event| events.lock().unwrap().push(event.clone())),
            retries: Retries::default(),
        };
        run(params, parts, stop).await
    }

    fn asked(&self) -> Vec<(ChunkId, u32)> {
        let mut asked: Vec<_> =
            self.copier.asked.lock().unwrap().iter().map(|it| (it.id, it.attempt)).collect();
        asked.sort_unstable();
        asked
    }
}

#[tokio::test]
async fn every_chunk_is_copied_once_parents_first() {
    let world = World::new([]);
    let ending = world.run(params(), CancellationToken::new()).await;
    assert_eq!(ending, Ok(Ending::Complete));
    let expected: Vec<_> = (1..=2)
        .flat_map(|table_id| (1..=11).map(move |number| (ChunkId { table_id, number }, 1)))
        .collect();
    assert_eq!(world.asked(), expected);
    assert_eq!(world.copier.asked.lock().unwrap()[0].id.table_id, 2, "its place is the first");
    assert_eq!(world.copier.most.load(Ordering::SeqCst), 3);
    let ranges: Vec<KeyRange> = {
        let asked = world.copier.asked.lock().unwrap();
        let mut of_one: Vec<_> = asked.iter().filter(|it| it.id.table_id == 1).cloned().collect();
        of_one.sort_by_key(|it| it.id);
        of_one.into_iter().map(|it| it.range).collect()
    };
    assert!(ranges[0].after.is_none() && ranges[10].until.is_none());
    assert!(
        ranges.windows(2).all(|pair| pair[0].until == pair[1].after && pair[0].until.is_some())
    );
}

#[tokio::test]
async fn a_second_start_goes_on_and_copies_no_finished_chunk_again() {
    let world = World::new([]);
    let stop = CancellationToken::new();
    let (stopping, asked) = (stop.clone(), Arc::clone(&world.copier));
    let watching = tokio::spawn(async move {
        while asked.asked.lock().unwrap().len() < 7 {
            tokio::task::yield_now().await;
        }
        stopping.cancel();
    });
    assert_eq!(world.run(params(), stop).await, Ok(Ending::Stopped));
    watching.await.unwrap();
    let first = world.asked().len();
    assert!((7..22).contains(&first), "{first} chunks before the stop");
    assert_eq!(world.run(params(), CancellationToken::new()).await, Ok(Ending::Complete));
    let mut all = world.asked();
    assert_eq!(all.len(), 22);
    all.dedup_by_key(|(id, _)| *id);
    assert_eq!(all.len(), 22, "no chunk twice");
}

#[tokio::test]
async fn failures_are_tried_again_with_a_new_attempt_and_lost_chunks_are_left() {
    let away = SqlFault::new(FaultKind::Unavailable, Reason::Internal, "away");
    let world = World::new([
        CopyHalt::Again("deadlock".to_owned()),
        CopyHalt::Away(Box::new(away)),
        CopyHalt::Again("deadlock".to_owned()),
    ]);
    assert_eq!(world.run(params(), CancellationToken::new()).await, Ok(Ending::Complete));
    let asked = world.asked();
    assert_eq!(asked.len(), 25);
    assert!(asked.iter().any(|(_, attempt)| *attempt > 1));
    assert!(world.copier.asked.lock().unwrap().iter().all(|it| it.begun_at == OutboxMark(7)));
}

#[tokio::test]
async fn what_fails_again_and_again_ends_it_with_its_reason() {
    let again = || CopyHalt::Again("row 7 does not fit".to_owned());
    let world = World::new(std::iter::repeat_with(again).take(100));
    let params = Params { attempts_max: 3, ..params() };
    let error = world.run(params, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("failed 3 times, the last time so: row 7 does not fit"));
    let world = World::new([CopyHalt::Void("capture was off".to_owned())]);
    let error = world
        .run(super::Params::new(1, limits(), Arc::new(|| 0.5)), CancellationToken::new())
        .await;
    assert_eq!(error, Err(BackfillError::Void("capture was off".to_owned())));
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn ceilings_hold_for_all_workers_together() {
    let world = World::new([]);
    // 220 rows at 500 a second, of which an eighth of a second's passes at once.
    let params = Params { rows_per_s_max: Some(500.0), ..params() };
    let begun = Instant::now();
    world.run(params, CancellationToken::new()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(180), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn one_file_is_for_one_process_and_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(CheckpointError::InUse { .. })));
    first.plan(&[table(1, 0)]).await.unwrap();
    let Next::Chunk(chunk) = first.claim().await.unwrap() else { panic!("a chunk is there") };
    drop(first);
    // What was under way is begun again, and known as such.
    let second = open(&path).unwrap();
    let Next::Chunk(again) = second.claim().await.unwrap() else { panic!("a chunk is there") };
    assert_eq!((again.id, again.attempt, &again.range), (chunk.id, 2, &chunk.range));
    assert!(again.begun_before());
    drop(second);
    let other = Checkpoint::open(&path, "a to c", Some(0), 3, Arc::new(Numbers(105)));
    assert!(other.unwrap_err().to_string().contains("is of a copy a to b, not a to c"));
    let gap = Checkpoint::open(&path, "a to b", Some(1), 3, Arc::new(Numbers(105)));
    assert!(gap.unwrap_err().to_string().contains("capture has been switched off"));
    std::fs::write(&path, "{\"form\": 1").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("cannot be read"));
}
