//! Which faults come when: a pure function of a seed, and a text that can be given again.
//!
//! Three lanes run beside each other: the sidecars', the source's and the target's. Within one
//! the next fault comes when the last is over. A plan is cut into rounds, which no fault
//! outlasts: after each, everything is held against each other. Each round begins with a trial.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// One round.
pub const ROUND: Duration = Duration::from_secs(20);
/// Sidecars of the fleet.
pub const SIDECARS: usize = 2;
/// The end of a round is without faults.
const CALM: Duration = Duration::from_secs(2);

/// One of so many rounds has a trial, when each has come once.
const TRIAL_EVERY: usize = 4;

/// Whom a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Sidecar(usize),
    Source,
    Target,
}

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and started again at the end.
    Kill,
    /// SIGSTOP, and SIGCONT at the end.
    Stall,
    /// The connection that carries this byte of an answer is reset.
    Cut(u32),
    /// All connections are reset.
    Reset,
    /// All connections are reset, and new ones refused.
    Refuse,
    /// Every piece of traffic comes so many milliseconds late, both ways.
    Slow(u64),
    /// Nothing gets through, and nobody is told.
    Hold,
    /// Somebody else takes all connections.
    Full,
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub victim: Victim,
    pub fault: Fault,
    pub lasting: Duration,
}

/// What is done on purpose at the beginning of a round, before its faults, and judged after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Nothing but the faults.
    None,
    /// Reads are shifted, and the source is shut down in order and started again.
    Restarts,
    /// Reads are shifted, the percentage is changed beside transactions of old snapshots, and
    /// whoever rehearses a cutover is stopped.
    Control,
    /// Triggers are off for a moment on one side, and rows change meanwhile.
    Unwatched,
    /// The target is held while a sidecar starts and one statement changes very many rows; then
    /// come rows larger than the memory for them.
    Limits,
    /// Tables are renamed, dropped and excluded, and a key cannot be read.
    Stuck,
    /// A sidecar is stopped whose callers have transactions open.
    Left,
}

/// Each of them with its name in a plan.
const TRIALS: [(Trial, &str); 7] = [
    (Trial::None, "none"),
    (Trial::Restarts, "restarts"),
    (Trial::Control, "control"),
    (Trial::Unwatched, "unwatched"),
    (Trial::Limits, "limits"),
    (Trial::Stuck, "stuck"),
    (Trial::Left, "left"),
];

/// A trial for each round, and all faults by their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    length: Duration,
    trials: Vec<Trial>,
    events: Vec<Event>,
}

/// A trial, and the faults with their times counted from the round's beginning.
pub struct Round {
    pub trial: Trial,
    pub faults: Vec<Event>,
}

// === impl Plan ===

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64, length: Duration) -> Self {
        let mut events = Vec::new();
        // A source that is ill stops the load itself: it is left in peace more often.
        for (lane, pause_ms) in [(0, 500..4_000), (1, 2_000..7_000), (2, 500..4_000)] {
            let mut dice = StdRng::seed_from_u64(seed.wrapping_add(lane));
            let mut at = Duration::ZERO;
            loop {
                at += Duration::from_millis(dice.random_range(pause_ms.clone()));
                let event = Event::drawn(&mut dice, lane, at);
                at += event.lasting;
                if event.at >= length {
                    break;
                }
                // What would outlast its round is left out.
                if at_in_round(event.at) + event.lasting + CALM <= ROUND {
                    events.push(event);
                }
            }
        }
        events.sort_by_key(|event| (event.at, event.victim));
        Self { length, trials: trials(seed, rounds_of(length)), events }
    }

    pub fn rounds(&self) -> Vec<Round> {
        let empty = |trial: &Trial| Round { trial: *trial, faults: Vec::new() };
        let mut rounds: Vec<_> = self.trials.iter().map(empty).collect();
        for event in &self.events {
            let round = usize::try_from(event.at.as_millis() / ROUND.as_millis()).unwrap();
            rounds[round].faults.push(Event { at: at_in_round(event.at), ..*event });
        }
        rounds
    }
}

fn rounds_of(length: Duration) -> usize {
    usize::try_from(length.as_millis().div_ceil(ROUND.as_millis()).max(1)).unwrap()
}

/// All of them before one comes again; at first in each round, and later in one of some, since
/// they take their time besides.
fn trials(seed: u64, count: usize) -> Vec<Trial> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut deck: Vec<_> = TRIALS[1..].iter().map(|(trial, _)| *trial).collect();
    let mut all = Vec::new();
    while all.len() < count {
        let first = all.is_empty();
        deck.shuffle(&mut dice);
        for trial in &deck {
            let others = if first { 0 } else { TRIAL_EVERY - 1 };
            all.extend(std::iter::repeat_n(Trial::None, others));
            all.push(*trial);
        }
    }
    all.truncate(count);
    all
}

fn at_in_round(at: Duration) -> Duration {
    Duration::from_millis(u64::try_from(at.as_millis() % ROUND.as_millis()).unwrap())
}

impl Event {
    fn drawn(dice: &mut StdRng, lane: u64, at: Duration) -> Self {
        let victim = match lane {
            0 => Victim::Sidecar(dice.random_range(0..SIDECARS)),
            1 => Victim::Source,
            _ => Victim::Target,
        };
        let fault = match (lane, dice.random_range(0..10)) {
            (0, 0..7) => Fault::Kill,
            (0, _) => Fault::Stall,
            (_, 0) => Fault::Kill,
            (_, 1 | 2) => Fault::Stall,
            (_, 3 | 4) => Fault::Cut(dice.random_range(1..2_000)),
            (_, 5) => Fault::Reset,
            (_, 6) => Fault::Refuse,
            (_, 7) => Fault::Slow(dice.random_range(5..400)),
            (_, 8) => Fault::Hold,
            _ => Fault::Full,
        };
        Self { at, victim, fault, lasting: Duration::from_millis(dice.random_range(100..1_500)) }
    }
}

// One line an event: `12.350 target cut:400 0.500`, seconds from the beginning and how long.

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "length {:.3}", self.length.as_secs_f64())?;
        let name = |trial: &Trial| TRIALS.iter().find(|(it, _)| it == trial).unwrap().1;
        let names: Vec<_> = self.trials.iter().map(name).collect();
        writeln!(f, "trials {}", names.join(" "))?;
        for event in &self.events {
            let victim = match event.victim {
                Victim::Sidecar(number) => format!("sidecar:{number}"),
                Victim::Source => "source".to_owned(),
                Victim::Target => "target".to_owned(),
            };
            let fault = match event.fault {
                Fault::Kill => "kill".to_owned(),
                Fault::Stall => "stall".to_owned(),
                Fault::Cut(byte) => format!("cut:{byte}"),
                Fault::Reset => "reset".to_owned(),
                Fault::Refuse => "refuse".to_owned(),
                Fault::Slow(ms) => format!("slow:{ms}"),
                Fault::Hold => "hold".to_owned(),
                Fault::Full => "full".to_owned(),
            };
            let (at, lasting) = (event.at.as_secs_f64(), event.lasting.as_secs_f64());
            writeln!(f, "{at:.3} {victim} {fault} {lasting:.3}")?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().and_then(|line| line.strip_prefix("length "));
        let length = seconds(first.ok_or("the first line is not `length` and seconds")?)?;
        let second = lines.next().and_then(|line| line.strip_prefix("trials "));
        let trial = |name: &str| {
            let found = TRIALS.iter().find(|(_, it)| *it == name);
            found.map(|(trial, _)| *trial).ok_or_else(|| format!("{name} is no trial"))
        };
        let names = second.ok_or("the second line is not `trials` and one for each round")?;
        let trials = names.split_whitespace().map(trial).collect::<Result<Vec<_>, _>>()?;
        let events = lines.map(str::parse).collect::<Result<Vec<Event>, _>>()?;
        match events.iter().find(|event| event.at >= length) {
            Some(late) => Err(format!("{late:?} comes after the end")),
            None if trials.len() != rounds_of(length) => {
                Err(format!("{} trials are not one for each round", trials.len()))
            }
            None => Ok(Self { length, trials, events }),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [at, victim, fault, lasting] = words[..] else {
            return Err(format!("{line:?} is not time, victim, fault and duration"));
        };
        let (victim, number) = with_number(victim)?;
        let (fault, amount) = with_number(fault)?;
        let unknown = || format!("{line:?} names no known victim or fault");
        Ok(Self {
            at: seconds(at)?,
            victim: match (victim, number) {
                ("sidecar", Some(number)) if number < SIDECARS as u64 => {
                    Victim::Sidecar(usize::try_from(number).unwrap())
                }
                ("source", None) => Victim::Source,
                ("target", None) => Victim::Target,
                _ => return Err(unknown()),
            },
            fault: match (fault, amount) {
                ("kill", None) => Fault::Kill,
                ("stall", None) => Fault::Stall,
                ("cut", Some(byte)) => Fault::Cut(u32::try_from(byte).map_err(|_| unknown())?),
                ("reset", None) => Fault::Reset,
                ("refuse", None) => Fault::Refuse,
                ("slow", Some(ms)) => Fault::Slow(ms),
                ("hold", None) => Fault::Hold,
                ("full", None) => Fault::Full,
                _ => return Err(unknown()),
            },
            lasting: seconds(lasting)?,
        })
    }
}

fn with_number(word: &str) -> Result<(&str, Option<u64>), String> {
    match word.split_once(':') {
        None => Ok((word, None)),
        Some((name, number)) => {
            Ok((name, Some(number.parse().map_err(|_| format!("{number} is no number"))?)))
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(Duration::from_millis(u64::try_from((time.as_micros() + 500) / 1000).unwrap()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_seed_gives_one_plan_and_its_text_the_same_plan() {
        for seed in 0..50 {
            let plan = Plan::from_seed(seed, HOUR);
            assert_eq!(plan, Plan::from_seed(seed, HOUR));
            assert_ne!(plan, Plan::from_seed(seed + 1, HOUR));
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }

    #[test]
    fn faults_of_one_victim_follow_each_other_and_none_outlasts_its_round() {
        for seed in 0..50 {
            let rounds = Plan::from_seed(seed, HOUR).rounds();
            assert_eq!(rounds.len(), 180);
            for Round { faults, .. } in rounds {
                for (at, event) in faults.iter().enumerate() {
                    assert!(event.at + event.lasting + CALM <= ROUND, "{event:?}");
                    let next = faults[at + 1..].iter().find(|next| next.victim == event.victim);
                    assert!(next.is_none_or(|next| next.at >= event.at + event.lasting));
                }
            }
        }
    }

    #[test]
    fn an_hour_has_every_fault_on_every_victim() {
        let plan = Plan::from_seed(1, HOUR).to_string();
        for victim in ["sidecar:0", "sidecar:1", "source", "target"] {
            let database = ["cut:", "reset", "refuse", "slow:", "hold", "full"];
            let faults = ["kill", "stall"].into_iter().chain(database);
            let count = if victim.starts_with("sidecar") { 2 } else { 8 };
            for fault in faults.take(count) {
                assert!(plan.contains(&format!("{victim} {fault}")), "no {fault} of {victim}");
            }
        }
    }

    #[test]
    fn every_trial_comes_before_one_comes_again() {
        let count = TRIALS.len() - 1;
        for seed in 0..50 {
            let rounds = Plan::from_seed(seed, ROUND * 50).rounds();
            let trials: Vec<_> = rounds.iter().map(|round| round.trial).collect();
            assert!(!trials[..count].contains(&Trial::None));
            let trials: Vec<_> = trials.into_iter().filter(|it| *it != Trial::None).collect();
            assert_eq!(trials.len(), count + (50 - count) / TRIAL_EVERY);
            for deck in trials.chunks_exact(count) {
                assert!(TRIALS[1..].iter().all(|(trial, _)| deck.contains(trial)));
            }
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_line() {
        for (text, said) in [
            ("", "length"),
            ("length 20\n1 source kill 1", "trials"),
            ("length 20\ntrials fire", "fire"),
            ("length 20\ntrials limits stuck", "2 trials"),
            ("length 20\ntrials limits\n1 source burn 1", "burn"),
            ("length 20\ntrials limits\n1 sidecar:7 kill 1", "sidecar:7"),
            ("length 20\ntrials limits\n1 source kill", "1 source kill"),
            ("length 20\ntrials limits\n21 source kill 1", "after the end"),
            ("length soon", "soon"),
        ] {
            let error = text.parse::<Plan>().unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
