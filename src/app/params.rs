//! The configuration as each room wants it.

use std::time::Duration;

use crate::app::{AppError, listen};
use crate::compare::rules::{Rule, Rules};
use crate::config::Config;
use crate::control::{self, leader, member, steps, target_reads};
use crate::domain::call::ResultLimits;
use crate::domain::fleet::MemberId;
use crate::domain::gate::Limits;
use crate::domain::routing::Routing;
use crate::domain::side::{Side, Sides};
use crate::grpc::auth::Token;
use crate::grpc::sql;
use crate::jobs::shadow_reads::{self, SamplingParams};
use crate::postgres::memory::RowMemory;
use crate::stack::{self, admission, awaiting, breaker, shift};
use crate::telemetry::spans::Peer;

const CONTROL_READ_MAX: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 10_000;
const STREAMS_MAX: u32 = 1_000;
/// How often a difference must show before it is believed.
const LOOKS: u32 = 2;

pub(super) fn control(config: &Config) -> control::Params {
    control::Params { poll_interval: config.control.poll_interval, read_timeout: CONTROL_READ_MAX }
}

pub(super) fn member(config: &Config) -> member::Params {
    let control = &config.control;
    member::Params {
        id: MemberId(uuid::Uuid::new_v4().as_u128()),
        name: control.name.clone(),
        address: config.listen.admin.clone(),
        version: crate::telemetry::VERSION.to_owned(),
        lease: control.lease,
        renew_interval: control.poll_interval,
        window: config.read_routing.rollback_trigger.window,
    }
}

/// A member that hangs is waited for until its lease has ended.
pub(super) fn target_reads(config: &Config, member: MemberId) -> target_reads::Params {
    let patience = config.control.lease + config.control.poll_interval;
    target_reads::Params { member, timeout: CONTROL_READ_MAX, patience }
}

pub(super) fn leader(config: &Config) -> leader::Params {
    leader::Params {
        interval: config.control.poll_interval,
        timeout: CONTROL_READ_MAX,
        lease: config.control.lease,
        routing: Routing {
            target_percentage: config.read_routing.target_percentage,
            escalation_schedule: config.read_routing.escalation_schedule.clone(),
            rollback_trigger: config.read_routing.rollback_trigger,
        },
    }
}

pub(super) fn steps(config: &Config) -> steps::Params {
    let gates = &config.gates;
    steps::Params {
        limits: Limits {
            dual_write_min: gates.dual_write_min,
            quiet_min: gates.quiet_min,
            samples_min: gates.samples_min,
            full_shift_min: gates.full_shift_min,
            outbox_age_max: gates.outbox_age_max,
            rehearsals_min: gates.rehearsals_min,
            reversed_min: gates.reversed_min,
        },
        timeout: CONTROL_READ_MAX,
        settle_wait: config.control.settle_wait,
    }
}

pub(super) fn stack(config: &Config) -> stack::Params {
    let limits = &config.limits;
    stack::Params {
        calls_max: limits.calls_max,
        admission: admission::Params {
            named_only: config.queries.named_only,
            statement_bytes_max: limits.request_bytes_max,
            parameters_max: limits.parameters_max,
            batch_statements_max: limits.batch_statements_max,
            cache_capacity: limits.statement_cache,
        },
        awaiting: awaiting::Params { wait: config.shift.write_wait, breaker: breaker(config) },
        shift: shift::Params {
            target_timeout: config.shift.target_timeout,
            breaker: breaker(config),
        },
    }
}

fn breaker(config: &Config) -> breaker::Params {
    let shift = &config.shift;
    breaker::Params { failures_max: shift.breaker_failures, pause: shift.breaker_pause }
}

pub(super) fn sql(config: &Config) -> sql::Params {
    let limits = &config.limits;
    sql::Params {
        result: ResultLimits {
            rows_max: limits.result_rows_max,
            bytes_max: limits.result_bytes_max,
        },
        message_bytes_max: limits.request_bytes_max,
        deadline_default: limits.deadline_default,
        deadline_max: limits.deadline_max,
        transaction_idle_max: config.transactions.idle_max,
        transaction_total_max: config.transactions.total_max,
        transactions_max: saturating(config.transactions.open_max),
        parameters_max: saturating(limits.parameters_max),
        batch_statements_max: saturating(limits.batch_statements_max),
        named_only: config.queries.named_only,
    }
}

/// Reads the operators' token from its file.
pub(super) fn listen(config: &Config) -> Result<listen::Params, AppError> {
    let admin_token = match &config.listen.admin_token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| AppError::Token { path: path.display().to_string(), error })?;
            Some(Token::new(text.trim()))
        }
        None => None,
    };
    Ok(listen::Params {
        sql: config.listen.sql.clone(),
        admin: config.listen.admin.clone(),
        admin_token,
        connections_max: CONNECTIONS_MAX,
        streams_max: STREAMS_MAX,
        message_bytes_max: config.limits.request_bytes_max,
        drain_max: config.listen.drain_timeout,
    })
}

/// The databases as traces name them: of several hosts the first.
pub(super) fn peers(config: &Config) -> Sides<Peer> {
    let peer = |side| {
        let database = config.database(side);
        let first = database.dsn.hosts.first().cloned();
        let (address, port) = first.map(|host| (host.name, host.port)).unwrap_or_default();
        Peer { side, address, port, namespace: database.dsn.database.clone() }
    };
    Sides { source: peer(Side::Source), target: peer(Side::Target) }
}

pub(super) fn shadow_reads(config: &Config, memory: &RowMemory) -> shadow_reads::Params {
    let sampling = &config.sampling;
    shadow_reads::Params {
        sampling: SamplingParams {
            rate: sampling.rate,
            by_statement: sampling.statements.clone().into_iter().collect(),
        },
        concurrency_max: sampling.concurrency,
        suspects_max: sampling.concurrency,
        deadline: sampling.deadline,
        limits: ResultLimits {
            rows_max: config.limits.result_rows_max,
            bytes_max: sampling.answer_bytes_max,
        },
        memory: memory.for_samples(sampling.memory_bytes_max),
        looks: LOOKS,
        look_interval: sampling.look_again_after,
        pending_max: sampling.pending_wait_max,
        gathered_max: config.compare.findings_max,
        flush_interval: config.compare.flush_interval,
        show_values: config.compare.show_values,
        rules: rules(config),
        peers: peers(config),
    }
}

fn rules(config: &Config) -> Rules {
    let rules = config.compare.rules.iter().map(|rule| Rule {
        statement: rule.statement.clone(),
        table: rule.table.clone(),
        column: rule.column.clone(),
        precision: rule.precision,
        ignore: rule.ignore,
        float_tolerance: rule.float_tolerance,
        unordered: rule.unordered,
    });
    Rules { rules: rules.collect() }
}

fn saturating(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
