//! The comparisons.

mod captured;
mod memory;
mod plain;

use crate::Plan;
use crate::contender::{Encoding, Worker, channels, client};
use crate::stream::Stream;
use crate::world::Servers;

/// Names of the parts, in the order in which they run.
pub const ALL: [&str; 10] = [
    "point",
    "rows100",
    "rows10000",
    "insert",
    "update",
    "captured",
    "dual",
    "sampling",
    "memory",
    "blocking",
];

/// Runs the parts of a plan.
pub async fn run(plan: &Plan) {
    let servers = Servers::start(&plan.settings);
    println!(
        "{} processors; {:.1} s a turn, {} turns, medians",
        std::thread::available_parallelism().map_or(0, usize::from),
        plan.seconds.as_secs_f64(),
        plan.repetitions
    );
    let wanted = |part: &str| plan.parts.iter().any(|it| it == part);
    plain::run(plan, &servers, &wanted).await;
    captured::run(plan, &servers, &wanted).await;
    memory::run(plan, &servers, &wanted).await;
}

async fn unary(address: &str, count: usize, plan: &Plan, encoding: Encoding) -> Vec<Worker> {
    let channels = channels(address, plan.channels.min(count)).await;
    let dealt = channels.iter().cycle().take(count);
    dealt.map(|channel| Worker::Unary(client(channel), encoding)).collect()
}

/// Workers on as many streams as there are channels, or each on a stream of its own.
async fn streams(
    address: &str,
    count: usize,
    plan: &Plan,
    encoding: Encoding,
    own: bool,
) -> Vec<Worker> {
    let channels = channels(address, plan.channels.min(count)).await;
    let mut streams: Vec<Stream> = Vec::new();
    for (number, channel) in channels.iter().cycle().take(count).enumerate() {
        let stream = match number.checked_sub(channels.len()) {
            Some(before) if !own => streams[before].beside(),
            _ => Stream::open(client(channel)).await,
        };
        streams.push(stream);
    }
    streams.into_iter().map(|stream| Worker::Stream(stream, encoding)).collect()
}
