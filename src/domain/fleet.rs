//! The fleet: all sidecars of one migration, as the primary's database knows them.

use std::fmt;
use std::time::SystemTime;

/// 128 random bits that name one run of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u128);

impl fmt::Display for MemberId {
    /// As a UUID in its canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

/// A row of `segue.member`. Times are the database's.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The name that it goes by: of the host or pod.
    pub name: String,
    /// Where operators call it.
    pub address: String,
    /// The version of segue that it runs.
    pub version: String,
    /// The newest epoch that it works by alone: no call of an older one is in progress.
    pub epoch: u64,
    /// The newest revision of the control row that it works by.
    pub revision: u64,
    /// When it was started.
    pub started_at: SystemTime,
    /// Until when it may take writes.
    pub lease_until: SystemTime,
    /// What it measured, in the form of [`crate::ports::fleet::Renewal`].
    pub figures: String,
}

/// All members at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The moment, by the database's clock.
    pub now: SystemTime,
    /// Who leads, while its lease lasts.
    pub leader: Option<MemberId>,
    /// By name. Those whose lease has ended stay on the list for a while.
    pub members: Vec<Member>,
}

/// Whether a version of the control row is what the whole fleet works by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is.
    Yes,
    /// These do not, or may not yet, each with what is known of it.
    WaitsFor(Vec<String>),
}

// === impl Fleet ===

impl Fleet {
    /// Members whose lease lasts.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.lease_until > self.now)
    }

    /// Whether every member that may act has acknowledged the epoch. A member whose lease has
    /// ended takes no writes; what it sent before that is for the database to tell.
    pub fn settled(&self, epoch: u64) -> Settled {
        self.wait_for(epoch, |member| member.epoch)
    }

    /// As [`Fleet::settled`], for a revision.
    pub fn has_taken(&self, revision: u64) -> Settled {
        self.wait_for(revision, |member| member.revision)
    }

    fn wait_for(&self, wanted: u64, of: impl Fn(&Member) -> u64) -> Settled {
        let lagging = self.alive().filter(|member| of(member) < wanted);
        let waiting: Vec<String> = lagging.map(|member| member.told(self.now)).collect();
        if waiting.is_empty() { Settled::Yes } else { Settled::WaitsFor(waiting) }
    }
}

// === impl Member ===

impl Member {
    fn told(&self, now: SystemTime) -> String {
        let left = self.lease_until.duration_since(now).unwrap_or_default();
        format!(
            "{} is at epoch {}, and its lease lasts for another {:.1} s",
            self.name,
            self.epoch,
            left.as_secs_f64()
        )
    }
}

// === impl Settled ===

impl Settled {
    /// Whether it is.
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    /// Whom it waits for; empty where for nobody.
    pub fn waits_for(&self) -> &[String] {
        match self {
            Self::Yes => &[],
            Self::WaitsFor(waiting) => waiting,
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let all = [self.waits_for(), other.waits_for()].concat();
        if all.is_empty() { Self::Yes } else { Self::WaitsFor(all) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn member(name: &str, epoch: u64, lease_s: i64, now: SystemTime) -> Member {
        let lease = Duration::from_secs(lease_s.unsigned_abs());
        Member {
            id: MemberId(1),
            name: name.to_owned(),
            address: String::new(),
            version: String::new(),
            epoch,
            revision: epoch,
            started_at: now,
            lease_until: if lease_s < 0 { now - lease } else { now + lease },
            figures: String::new(),
        }
    }

    #[test]
    fn an_epoch_has_settled_when_all_who_may_act_know_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let of = |members: &[(&str, u64, i64)]| Fleet {
            now,
            leader: None,
            members: members.iter().map(|(name, epoch, s)| member(name, *epoch, *s, now)).collect(),
        };
        assert!(of(&[("a", 7, 5), ("b", 8, 1)]).settled(7).is_yes());
        let lagging = of(&[("a", 7, 5), ("b", 6, 1)]).settled(7);
        assert_eq!(lagging.waits_for().len(), 1);
        assert!(lagging.waits_for()[0].starts_with("b is at epoch 6"), "{lagging:?}");
        // It has stopped by its own clock before the database says so.
        assert!(of(&[("a", 7, 5), ("b", 6, -1)]).settled(7).is_yes());
    }
}
