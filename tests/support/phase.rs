//! A phase set for a test: without a sidecar, and past all gates.

use ::segue::app::databases::Databases;
use ::segue::config::{Config, Sources};
use ::segue::control::{PhaseChange, read_once};
use ::segue::domain::control::Phase;
use ::segue::domain::side::Side;
use ::segue::postgres::control::ControlTable;
use segue::app::operations::{setup, target_capture};

use super::Segue;

/// Phases in which the source is the primary and answers all reads.
const SETTABLE: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

impl Segue {
    /// Sets both sides up by `segue init`, and then the phase. Gives what `init` printed.
    pub async fn init_in(&self, phase: &str) -> String {
        let told = self.succeed(&["init"]);
        self.set_phase(phase).await;
        told
    }

    /// Leaves the databases as `segue phase advance` or `segue phase back --give-up-copy` does:
    /// capture stands on both sides before the phase, or stops after it.
    pub async fn set_phase(&self, phase: &str) {
        let phase: Phase = phase.parse().expect("it is the name of a phase");
        assert!(SETTABLE.contains(&phase), "{phase} is reached by a sidecar's steps alone");
        let sources = Sources {
            file: Some(self.config_file().to_owned()),
            variables: super::segue::environment().collect(),
            flags: Vec::new(),
        };
        let config = Config::load(&sources).expect("the configuration can be used");
        let databases = Databases::open(&config).expect("the configuration can be used");
        let row = read_once(&ControlTable::new(databases.own())).await;
        if row.expect("`segue init` has run").state.phase == phase {
            return;
        }
        if phase.captures() {
            captured(&config, &databases).await;
        }
        let (reason, changed_by) = ("a test".to_owned(), "a test".to_owned());
        let change = PhaseChange { phase, reason, changed_by };
        setup::change_phase(&databases, &change).await.expect("the phase can be set");
        if !phase.captures() {
            setup::switch_capture_off(&databases).await.expect("capture can be switched off");
        }
    }
}

async fn captured(config: &Config, databases: &Databases) {
    let source = setup::install_capture(config, databases, Side::Source).await;
    let target = target_capture::install_on_target(config, databases).await;
    for report in [source.map(Some), target] {
        let report = report.expect("capture can be installed");
        let refused = report.map(|report| report.refused).unwrap_or_default();
        assert!(refused.is_empty(), "tables that cannot be captured: {refused:?}");
    }
}
