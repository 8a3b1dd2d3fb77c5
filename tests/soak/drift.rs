//! A trial of capture that is off for a moment, while rows change that segue is not told of.

use crate::support::eventually;
use crate::trial::{LIMIT, done, said};
use crate::world::World;

pub const TABLES: &str = "
CREATE TABLE unwatched (id int PRIMARY KEY, v int NOT NULL);
INSERT INTO unwatched SELECT i, 0 FROM generate_series(1, 100) AS i;";

/// As an importing tool does it: no look of segue's falls into the transaction.
const IMPORT: &str = "DO $$ DECLARE name name; BEGIN
    ALTER TABLE unwatched DISABLE TRIGGER ALL;
    UPDATE unwatched SET v = v + 1 WHERE id <= 10;
    DELETE FROM unwatched WHERE id = 11;
    INSERT INTO unwatched SELECT max(id) + 1, -1 FROM unwatched;
    FOR name IN SELECT tgname FROM pg_catalog.pg_trigger
        WHERE tgrelid = 'public.unwatched'::regclass AND NOT tgisinternal
    LOOP
        EXECUTE format('ALTER TABLE unwatched ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
END $$";
const VERIFY: [&str; 3] = ["verify", "--table", "public.unwatched"];
/// There are differences.
const DIFFERENT: i32 = 3;

/// Capture was off on this side.
pub struct Unwatched(&'static str);

// === impl Unwatched ===

impl Unwatched {
    /// Changes rows past capture on the one side or the other; it is named everywhere at once.
    pub async fn begin(world: &World, round: i64) -> Self {
        let segue = &world.sidecars[0];
        done(segue, &VERIFY).await;
        let (side, database) = match round % 2 {
            0 => ("source", &world.pair.source),
            _ => ("target", &world.pair.target),
        };
        database.run(IMPORT).await;
        eventually("capture that was off is noticed", LIMIT, || async {
            let told = said(&segue.run(&["status"]));
            let void = told.contains("the proofs of public.unwatched are void");
            (void && told.contains(&format!("on the {side} triggers of capture"))).then_some(())
        })
        .await;
        Self(side)
    }

    /// It is named still, what changed is found, and the source's rows are brought over.
    pub async fn end(self, world: &World) {
        let segue = &world.sidecars[1];
        let told = said(&segue.run(&["status"]));
        assert!(told.contains("public.unwatched"), "{}: not named any more: {told}", self.0);
        let found = eventually("the table can be verified", LIMIT, || async {
            let output = segue.run(&VERIFY);
            (output.status.code() == Some(DIFFERENT)).then(|| said(&output))
        })
        .await;
        println!("capture was off on the {}: {found}", self.0);
        done(segue, &[&VERIFY[..], &["--repair"]].concat()).await;
        eventually("its proofs are not void any more", LIMIT, || async {
            let told = said(&segue.run(&["status"]));
            (!told.contains("the proofs of public.unwatched are void")).then_some(())
        })
        .await;
    }
}
