//! Asks the outbox for many callers at once whether their writes are on the shadow.
//!
//! However many wait, one statement is under way at a time: it is sent when somebody asks, when
//! this member's reconciler has done a batch, and otherwise every few milliseconds, since
//! another member may have done it. Nothing is lost by a crash: the outbox knows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::key::{OutboxMark, WriteId};
use crate::ports::settled::{Oldest, OutboxLookup, SettledWrites, Standing};

/// Questions that may wait to be sent; what is above is left unanswered.
const QUESTIONS_MAX: usize = 8192;
/// Writes of one statement.
const WRITES_MAX: usize = 1000;
/// Between two looks for those who wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Least time between two statements: those who come in between share the next one.
const GATHER: Duration = Duration::from_millis(1);
/// How long one look may take. After that it cannot be told.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// What is committed now may bear a later time, where the server's clock was set back meanwhile.
const SET_BACK_MAX: Duration = Duration::from_secs(1);

/// Asks for callers. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Settling {
    questions: mpsc::Sender<Question>,
    reconciled: Arc<Notify>,
}

#[derive(Debug)]
struct Question {
    about: About,
    epoch: u64,
    waits: bool,
    answer: oneshot::Sender<Told>,
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
enum About {
    Write(WriteId),
    AllBefore(OutboxMark),
}

#[derive(Debug, Clone, Copy)]
struct Told {
    standing: Standing,
    /// Where the primary's clock was looked at.
    now: Option<OutboxMark>,
}

impl Told {
    const NOTHING: Self = Self { standing: Standing::Unknown, now: None };
}

/// What one look found.
struct Found {
    epoch: Option<u64>,
    unsettled: HashSet<WriteId>,
    oldest: Option<Oldest>,
}

/// Asks until it is told to stop.
pub struct Asking {
    lookup: Arc<dyn OutboxLookup>,
    questions: mpsc::Receiver<Question>,
    reconciled: Arc<Notify>,
}

/// The two ends.
pub fn settling(lookup: Arc<dyn OutboxLookup>) -> (Settling, Asking) {
    let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
    let reconciled = Arc::new(Notify::new());
    let settling = Settling { questions: sender, reconciled: Arc::clone(&reconciled) };
    (settling, Asking { lookup, questions, reconciled })
}

// === impl Settling ===

impl Settling {
    /// This member has reconciled something: those who wait may look.
    pub fn reconciled(&self) {
        self.reconciled.notify_one();
    }

    fn ask(&self, about: About, epoch: u64, waits: bool) -> BoxFuture<'_, Told> {
        let (answer, answered) = oneshot::channel();
        let asked = self.questions.try_send(Question { about, epoch, waits, answer });
        Box::pin(async move {
            match asked {
                // An asker that has stopped knows nothing.
                Ok(()) => answered.await.unwrap_or(Told::NOTHING),
                Err(_) => Told::NOTHING,
            }
        })
    }
}

impl SettledWrites for Settling {
    fn standing(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, Standing> {
        let asked = self.ask(About::Write(write), epoch, false);
        Box::pin(async move { asked.await.standing })
    }

    fn until_settled(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, bool> {
        let asked = self.ask(About::Write(write), epoch, true);
        Box::pin(async move { asked.await.standing == Standing::Settled })
    }

    fn present(&self, epoch: u64) -> BoxFuture<'_, Option<OutboxMark>> {
        let asked = self.ask(About::AllBefore(OutboxMark(i64::MIN)), epoch, false);
        let margin = i64::try_from(SET_BACK_MAX.as_micros()).unwrap_or(i64::MAX);
        Box::pin(async move {
            let Told { standing, now } = asked.await;
            // Of another epoch it says nothing.
            let now = now.filter(|_| standing != Standing::Unknown)?;
            Some(OutboxMark(now.0.saturating_add(margin)))
        })
    }

    fn standing_before(&self, mark: OutboxMark, epoch: u64) -> BoxFuture<'_, Standing> {
        let asked = self.ask(About::AllBefore(mark), epoch, false);
        Box::pin(async move { asked.await.standing })
    }
}

// === impl Asking ===

impl Asking {
    /// Answers questions until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let answer = async {
            let mut waiting: Vec<Question> = Vec::new();
            while self.gather(&mut waiting).await {
                waiting.retain(|question| !question.answer.is_closed());
                if !waiting.is_empty() {
                    waiting = self.answer(waiting).await;
                }
                tokio::time::sleep(GATHER).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = answer => {}
        }
    }

    /// Waits for a reason to look, and takes what was asked meanwhile. A write that was just
    /// made is not looked for at once: nobody can have reconciled it yet. False at the end.
    async fn gather(&mut self, waiting: &mut Vec<Question>) -> bool {
        let tick = tokio::time::sleep(LOOK_INTERVAL);
        tokio::pin!(tick);
        loop {
            tokio::select! {
                question = self.questions.recv() => {
                    let Some(question) = question else { return false };
                    let at_once = !question.waits;
                    if waiting.is_empty() {
                        tick.as_mut().reset(tokio::time::Instant::now() + LOOK_INTERVAL);
                    }
                    waiting.push(question);
                    if at_once {
                        break;
                    }
                }
                () = self.reconciled.notified(), if !waiting.is_empty() => break,
                () = &mut tick, if !waiting.is_empty() => break,
            }
        }
        while let Ok(question) = self.questions.try_recv() {
            waiting.push(question);
        }
        true
    }

    /// Answers what can be answered, and gives back those who go on waiting.
    async fn answer(&self, mut asked: Vec<Question>) -> Vec<Question> {
        let later = asked.split_off(asked.len().min(WRITES_MAX));
        let found = self.look(&asked).await;
        let mut left = Vec::new();
        for question in asked {
            let told = found.of(&question);
            if told.standing == Standing::Settled || !question.waits {
                // Who does not listen any more has given up waiting.
                let _ = question.answer.send(told);
            } else {
                left.push(question);
            }
        }
        left.extend(later);
        left
    }

    async fn look(&self, asked: &[Question]) -> Found {
        let write = |question: &Question| match question.about {
            About::Write(write) => Some(write),
            About::AllBefore(_) => None,
        };
        let writes: Vec<WriteId> = asked.iter().filter_map(write).collect();
        let mut found = Found { epoch: None, unsettled: HashSet::new(), oldest: None };
        if !writes.is_empty() {
            let looked = tokio::time::timeout(LOOK_MAX, self.lookup.waiting(&writes)).await;
            if let Ok(Ok(waiting)) = looked {
                found.epoch = Some(waiting.epoch);
                found.unsettled = waiting.writes.into_iter().collect();
            }
        }
        if writes.len() < asked.len() {
            let looked = tokio::time::timeout(LOOK_MAX, self.lookup.oldest()).await;
            found.oldest = looked.ok().and_then(Result::ok);
        }
        found
    }
}

impl Found {
    fn of(&self, question: &Question) -> Told {
        let (epoch, waits) = match question.about {
            About::Write(write) => (self.epoch, self.unsettled.contains(&write)),
            About::AllBefore(mark) => {
                let since = self.oldest.and_then(|oldest| oldest.since);
                (self.oldest.map(|oldest| oldest.epoch), since.is_some_and(|since| since <= mark))
            }
        };
        let standing = match (epoch == Some(question.epoch), waits) {
            (false, _) => Standing::Unknown,
            (true, true) => Standing::Waiting,
            (true, false) => Standing::Settled,
        };
        Told { standing, now: self.oldest.map(|oldest| oldest.now) }
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::domain::fault::{FaultKind, SqlFault};
    use crate::domain::reason::Reason;
    use crate::ports::settled::Waiting;

    struct Outbox {
        waiting: Mutex<Vec<WriteId>>,
        away: Mutex<bool>,
        looks: AtomicUsize,
    }

    impl OutboxLookup for Outbox {
        fn waiting<'a>(
            &'a self,
            writes: &'a [WriteId],
        ) -> BoxFuture<'a, Result<Waiting, SqlFault>> {
            self.looks.fetch_add(1, Ordering::SeqCst);
            let away = *self.away.lock().unwrap();
            let known = self.waiting.lock().unwrap();
            let writes = writes.iter().copied().filter(|write| known.contains(write)).collect();
            Box::pin(async move {
                match away {
                    true => Err(SqlFault::new(
                        FaultKind::Unavailable,
                        Reason::UnavailableConnect,
                        "away",
                    )),
                    false => Ok(Waiting { epoch: 4, writes }),
                }
            })
        }

        fn oldest(&self) -> BoxFuture<'_, Result<Oldest, SqlFault>> {
            let away = *self.away.lock().unwrap();
            let since = self.waiting.lock().unwrap().first().map(|_| OutboxMark(50));
            Box::pin(async move {
                match away {
                    true => Err(SqlFault::new(
                        FaultKind::Unavailable,
                        Reason::UnavailableConnect,
                        "away",
                    )),
                    false => Ok(Oldest { epoch: 4, now: OutboxMark(100), since }),
                }
            })
        }
    }

    fn start() -> (Arc<Outbox>, Settling, CancellationToken) {
        let outbox = Arc::new(Outbox {
            waiting: Mutex::new(vec![WriteId(1)]),
            away: Mutex::new(false),
            looks: AtomicUsize::new(0),
        });
        let (settling, asking) = settling(Arc::<Outbox>::clone(&outbox));
        let stop = CancellationToken::new();
        tokio::spawn(asking.run(stop.clone()));
        (outbox, settling, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_has_settled_when_the_outbox_of_its_epoch_says_so() {
        let (outbox, settling, stop) = start();
        assert_eq!(settling.standing(WriteId(2), 4).await, Standing::Settled);
        assert_eq!(settling.standing(WriteId(1), 4).await, Standing::Waiting);
        // The copy was given up, and the outbox emptied by that.
        assert_eq!(settling.standing(WriteId(2), 3).await, Standing::Unknown);
        *outbox.away.lock().unwrap() = true;
        assert_eq!(settling.standing(WriteId(2), 4).await, Standing::Unknown);
        *outbox.away.lock().unwrap() = false;
        stop.cancel();
        assert!(!settling.until_settled(WriteId(2), 4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn all_before_a_moment_has_settled_when_nothing_as_old_waits() {
        let (outbox, settling, _stop) = start();
        let before = |mark, epoch| settling.standing_before(OutboxMark(mark), epoch);
        assert_eq!(before(49, 4).await, Standing::Settled);
        assert_eq!(before(50, 4).await, Standing::Waiting);
        assert_eq!(before(i64::MAX, 4).await, Standing::Waiting);
        assert_eq!(before(49, 3).await, Standing::Unknown, "of another epoch");
        assert_eq!(settling.present(4).await, Some(OutboxMark(1_000_100)));
        assert_eq!(settling.present(3).await, None, "of another epoch");
        outbox.waiting.lock().unwrap().clear();
        assert_eq!(before(i64::MAX, 4).await, Standing::Settled);
        *outbox.away.lock().unwrap() = true;
        assert_eq!(before(0, 4).await, Standing::Unknown);
        assert_eq!(settling.present(4).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_wait_share_a_look_and_hear_of_what_others_reconciled() {
        let (outbox, settling, _stop) = start();
        let ask = |id| {
            let settling = settling.clone();
            tokio::spawn(async move { settling.until_settled(WriteId(id), 4).await })
        };
        let waits = ask(1);
        let others: Vec<_> = (2..500).map(ask).collect();
        for other in others {
            assert!(other.await.unwrap());
        }
        assert!(outbox.looks.load(Ordering::SeqCst) < 5, "{:?}", outbox.looks);
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
        assert!(!waits.is_finished());
        outbox.waiting.lock().unwrap().clear();
        assert!(waits.await.unwrap(), "by the clock");
        let before = outbox.looks.load(Ordering::SeqCst);
        tokio::time::sleep(LOOK_INTERVAL * 100).await;
        assert_eq!(outbox.looks.load(Ordering::SeqCst), before, "nobody asks, nobody looks");
    }
}
