//! What a test does at random, so that it can be done again.

/// Gives the seed of an earlier run.
const SEED: &str = "SEGUE_TEST_SEED";

/// A seed, printed with the way to have it again. It decides what the test does and when; how
/// the processes then interleave is the machine's doing.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var(SEED).ok();
    let seed = given.map_or_else(rand::random, |text| {
        text.parse().unwrap_or_else(|error| panic!("{SEED}={text}: {error}; give a whole number"))
    });
    eprintln!("{test}: {SEED}={seed} does the same again");
    seed
}
