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

use crate::domain::key::WriteId;
use crate::ports::settled::{OutboxLookup, SettledWrites, Standing};

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

/// Asks for callers. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Settling {
    questions: mpsc::Sender<Question>,
    reconciled: Arc<Notify>,
}

#[derive(Debug)]
struct Question {
    write: WriteId,
    epoch: u64,
    waits: bool,
    answer: oneshot::Sender<Standing>,
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

    fn ask(&self, write: WriteId, epoch: u64, waits: bool) -> BoxFuture<'_, Standing> {
        let (answer, answered) = oneshot::channel();
        let asked = self.questions.try_send(Question { write, epoch, waits, answer });
        Box::pin(async move {
            match asked {
                // An asker that has stopped knows nothing.
                Ok(()) => answered.await.unwrap_or(Standing::Unknown),
                Err(_) => Standing::Unknown,
            }
        })
    }
}

impl SettledWrites for Settling {
    fn standing(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, Standing> {
        self.ask(write, epoch, false)
    }

    fn until_settled(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, bool> {
        let asked = self.ask(write, epoch, true);
        Box::pin(async move { asked.await == Standing::Settled })
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
        let writes: Vec<WriteId> = asked.iter().map(|question| question.write).collect();
        let found = tokio::time::timeout(LOOK_MAX, self.lookup.waiting(&writes)).await;
        let (epoch, unsettled) = match found {
            Ok(Ok(found)) => (Some(found.epoch), found.writes.into_iter().collect()),
            _ => (None, HashSet::new()),
        };
        let mut left = Vec::new();
        for question in asked {
            let standing = match epoch == Some(question.epoch) {
                false => Standing::Unknown,
                true if unsettled.contains(&question.write) => Standing::Waiting,
                true => Standing::Settled,
            };
            if standing == Standing::Settled || !question.waits {
                // Who does not listen any more has given up waiting.
                let _ = question.answer.send(standing);
            } else {
                left.push(question);
            }
        }
        left.extend(later);
        left
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
                    true => Err(SqlFault::new(FaultKind::Unavailable, "away", "away")),
                    false => Ok(Waiting { epoch: 4, writes }),
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
