//! Everything that preflight can find: its stable name, how heavy it weighs, why, the way out.

pub use crate::preflight::severity::Severity;

macro_rules! codes {
    ($($name:ident $text:literal $severity:ident $why:literal $way_out:literal;)+) => {
        /// What was found, by kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $why] $name,)+
        }

        impl Code {
            /// All of them, as the documentation lists them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How heavy it weighs.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }

            /// Why it matters.
            pub fn why(self) -> &'static str {
                match self { $(Self::$name => $why,)+ }
            }

            /// What to do about it.
            pub fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)+ }
            }
        }
    };
}

codes! {
    // The servers, and the way to them.
    Pooler "server.pooler" Blocks
        "behind a transaction pooler the statements of one session run on any server process, so that prepared statements, settings and locks get lost or reach another caller"
        "connect to the server itself, or set the pooler to session mode";
    Standby "server.standby" Blocks
        "a standby cannot be written, and may lag behind what it is asked for"
        "name the primary's host, or set target_session_attrs = read-write";
    ReadOnly "server.read_only" Blocks
        "segue writes on both sides: the outbox on the one, the rows on the other"
        "let this role's transactions write";
    TooOld "server.too_old" Blocks
        "capture needs CREATE OR REPLACE TRIGGER, which came with PostgreSQL 14; CockroachDB lists its triggers from 25.3 on"
        "upgrade the server to PostgreSQL 14, CockroachDB 25.3, or later";
    Unreadable "server.unreadable" Blocks
        "without its tables and columns nothing can be compared"
        "let the role read pg_catalog";
    NotAsked "server.not_asked" Warning
        "nothing is known of what was not asked, and nothing was found there for that reason alone"
        "look at it by hand, or let the role ask";
    PreparedOpen "server.prepared_open" Blocks
        "a prepared transaction may commit at any later time; the copy must not begin before, and the fence cannot wait for it"
        "commit it or roll it back";
    PreparedAllowed "server.prepared_allowed" Note
        "segue refuses PREPARE TRANSACTION, but programs that go past it may use it, and the cutover waits for none"
        "set max_prepared_transactions = 0 if it is not used";
    AsyncCommit "server.async_commit" Warning
        "after a crash the server may have forgotten writes that the application was told of, and the two sides then differ by them"
        "set synchronous_commit = on";
    UnsafeDisk "server.unsafe_disk" Warning
        "after a crash of the machine the server may have lost or damaged what it had committed"
        "set fsync and full_page_writes to on";
    Encoding "server.encoding" Blocks
        "characters that the target's encoding lacks get stuck in the outbox"
        "make the target database with the source's encoding, or UTF8";
    EncodingBack "server.encoding_back" Warning
        "after the cutover the target takes characters that the source's encoding lacks, which cannot be carried back"
        "keep to the characters of the source's encoding until the way back is given up";
    Collation "server.collation" Warning
        "texts sort and compare by another order: ORDER BY, ranges and LIKE may answer differently"
        "make the target with the source's locale, or write COLLATE where the order matters";
    Setting "server.setting" Warning
        "the application's sessions behave differently on the two sides"
        "set it alike for the database or the role that the application uses";
    LargeObjects "server.large_objects" Warning
        "large objects are no rows of a table, and are not copied"
        "move them into bytea columns, or copy them yourself under the same numbers";
    ExtensionMissing "server.extension_missing" Warning
        "columns of the source use what the extension brings"
        "create the extension on the target, or make sure that nothing of it is needed there";
    ExtensionVersion "server.extension_version" Note
        "types and functions of the extension may behave differently"
        "bring both to one version where that matters";
    // What segue's role may do.
    ReplicationRole "role.replication_role" Blocks
        "rows are copied, not derived again: without session_replication_role = replica the triggers and foreign keys of the side that follows would change or refuse them"
        "let segue's role set it; both sides follow at some time";
    SegueSchema "role.schema" Blocks
        "segue keeps its own tables in schema segue, which its role must own"
        "make the schema for it, or hand it over";
    SchemaUsage "role.schema_usage" Blocks
        "without it no table of the schema can be read"
        "grant it";
    TableRights "role.table_rights" Blocks
        "either side is read, captured and written at some time: on the way there and on the way back"
        "grant them";
    AlwaysRights "role.always_rights" Blocks
        "capture's triggers fire whatever session_replication_role says, which only a table's owner can set for them"
        "make segue's role a member of the owners, or run the statements as a role that is one";
    SequenceRights "role.sequence_rights" Warning
        "the cutover reads the sequences of the one side and sets those of the other beyond them"
        "grant them before the cutover";
    RowSecurity "role.row_security" Blocks
        "row security hides rows from segue's role: they would count as deleted"
        "let the role bypass it";
    RoleSetting "role.setting" Note
        "it is set for the role or the database; segue's sessions have what their statements rely on instead"
        "nothing to do for segue; sessions of callers have it";
    RoleSettingKept "role.setting_kept" Warning
        "segue's sessions begin with it and keep it: it changes what their statements do, or ends them"
        "set it otherwise for segue's role";
    RoleSessions "role.sessions" Blocks
        "sessions beyond the limit are refused: a sidecar that lacks one can neither write nor copy"
        "raise the limit to what all sidecars open together, or take it off";
    // What callers' statements run as.
    CallersOneRole "callers.one_role" Warning
        "what callers run has the rights of segue's role: row security does not apply to it, and it can read and change segue's own tables"
        "name a login of its own for it: source.application and target.application";
    CallersLogin "callers.login" Blocks
        "callers' statements run as this login, on either side at some time"
        "let it log in, or mend application";
    CallersPowers "callers.powers" Blocks
        "what callers run could pass capture, or change what segue goes by"
        "take it away from the role of callers' statements";
    CallersFunctions "callers.functions" Blocks
        "sessions of callers look at the control row, and keep idempotency keys, by functions of segue's"
        "run segue init, or grant them";
    CallersEnding "callers.ending" Blocks
        "a session of callers whose sidecar is lost is ended, or a cutover would wait for it; and segue must see which it is"
        "make segue's role a member of the role that callers log in as";
    CaptureInvoker "capture.invoker" Warning
        "capture's trigger runs there as whoever writes: the role's own writes to the table are refused once segue captures it"
        "grant it what the trigger needs, or let the role write through segue alone";
    CallersRights "callers.rights" Warning
        "reads that are sampled or shifted run as the application's role of the other side, and everything does after the cutover"
        "grant the same on both sides";
    CallersUnprotected "callers.unprotected" Warning
        "row security is on, and does not apply to the role of callers' statements: each caller sees all rows"
        "run them as a role without BYPASSRLS that does not own the table, or say FORCE ROW LEVEL SECURITY";
    CallersOwner "callers.owner" Warning
        "an owner can switch capture off, and its functions in defaults and constraints run when segue copies rows"
        "let another role own the table";
    CallersReadOnly "callers.read_only" Warning
        "its transactions begin read-only, and what callers write is refused"
        "take default_transaction_read_only off the role";
    // Tables.
    TableMissing "table.missing" Blocks
        "its rows have no place to go to, or come from"
        "make the table there, or leave it out of the migration by tables.exclude";
    NoPrimaryKey "table.no_primary_key" Blocks
        "without a primary key a row has no name by which it can be captured and made equal"
        "add a primary key, or leave the table out by tables.exclude";
    Unlogged "table.unlogged" Blocks
        "a crash empties it, and the sides would silently diverge"
        "make it logged, or leave it out by tables.exclude";
    ForeignTable "table.foreign" Blocks
        "its rows are in another database, where no trigger of this one sees them change"
        "migrate it where its rows are, and leave it out by tables.exclude";
    NotATable "table.not_a_table" Blocks
        "a view holds no rows of its own"
        "map the tables under it";
    OnlyPartition "table.partition" Blocks
        "a partition belongs to its table"
        "map the partitioned table";
    PartitionKind "table.partition_kind" Blocks
        "rows of a foreign or unlogged partition are not captured, or lost by a crash"
        "detach it, or make it an ordinary one";
    Inheritance "table.inheritance" Blocks
        "a statement on the parent touches rows of its children, which are tables of their own"
        "turn the tree into a partitioned table, or end it by NO INHERIT";
    Subscribed "table.subscribed" Blocks
        "logical replication writes it without firing triggers, so that its changes are not captured"
        "migrate it from its publisher, or end the subscription";
    Partitioned "table.partitioned" Note
        "rows are carried to it whatever its partitions; one without a partition for a row gets stuck"
        "make sure that there is a partition for every row, or a default one";
    OnlyOnTarget "table.only_on_target" Note
        "it is no part of the migration"
        "map it by tables.map where it is one under another name";
    NotMigrated "table.not_migrated" Note
        "it is not migrated: statements that touch it stay on the source in every phase, and fail the gate to shift until it is declared"
        "name its owner in tables.stay, a function's in tables.functions";
    Published "table.published" Note
        "who subscribes gets what segue writes on this side as well, and nothing more from the source after the cutover"
        "move subscribers over with the application";
    SecurityDiffers "table.row_security" Warning
        "after the cutover other rows are visible to the application than before"
        "make row security and its policies alike";
    Unfit "table.unfit" Blocks
        "reconcile refuses the table as it is"
        "mend what it says";
    // Keys.
    KeyColumns "key.columns" Blocks
        "the two sides name their rows differently, so that no row has a counterpart"
        "give both the same primary key";
    KeyType "key.type" Blocks
        "the same key would not name the same row on both sides"
        "give both sides the same type, or integers, or texts";
    KeyDeferrable "key.deferrable" Blocks
        "INSERT … ON CONFLICT, by which the history is copied, refuses a deferrable key"
        "make the key one that is not deferrable";
    KeyOrder "key.order" Note
        "ranges of the key are read in the source's order; the target's index serves them badly"
        "make the columns of the key stand in the same order";
    // Columns.
    ColumnMissing "column.missing" Blocks
        "its values would be lost: on the way there, or on the way back"
        "add the column, or drop it on the other side";
    NoCounterpart "column.no_counterpart" Blocks
        "values of the one type have no equal in the other"
        "choose another type for the target's column";
    Narrower "column.narrower" Blocks
        "the source may hold values that the target refuses, rounds or cuts: their rows get stuck"
        "widen the target's column";
    Coarser "column.coarser" Warning
        "the target keeps less of a value than the source, which the comparer takes for equal; after the cutover the rest is gone"
        "give the target's column the source's type and precision, or accept it";
    CoarserUnique "column.coarser_unique" Blocks
        "two rows that differ by what the target does not keep are one and the same to its unique index: the second gets stuck"
        "give the target's column the source's precision";
    Wider "column.wider" Warning
        "after the cutover the target takes values that the source cannot hold: they could not be carried back"
        "keep to the source's range until the way back is given up, or widen the source's column";
    Finer "column.finer" Note
        "after the cutover the target keeps more of a value than the source, which gets it rounded"
        "nothing to do, unless the way back has to be exact";
    EnumLabels "column.enum_labels" Blocks
        "rows with a label that the target lacks get stuck"
        "add the labels on the target";
    EnumLabelsBack "column.enum_labels_back" Warning
        "after the cutover the target takes labels that the source lacks: they could not be carried back"
        "add the labels on the source as well";
    EnumOrder "column.enum_order" Warning
        "ORDER BY and comparisons go by the order of the labels"
        "create the type again with its labels in the same order";
    NotNull "column.not_null" Blocks
        "rows with NULL get stuck"
        "let the target's column be NULL, or the source's not";
    Nullable "column.nullable" Warning
        "after the cutover the target takes NULL, which could not be carried back"
        "make the target's column NOT NULL";
    DefaultMissing "column.default_missing" Warning
        "after the cutover an INSERT that leaves the column out gives NULL, or fails"
        "give the target's column the default";
    DefaultAdded "column.default_added" Note
        "after the cutover an INSERT that leaves the column out gives another value than before"
        "drop the default, or accept it";
    DefaultDiffers "column.default_differs" Warning
        "after the cutover an INSERT that leaves the column out gives another value than before"
        "make the defaults alike, or accept it";
    DefaultTooBig "column.default_too_big" Blocks
        "the target itself makes values that the source cannot hold: the cutover could not be undone"
        "widen the source's column, or let the target number by a sequence";
    Generated "column.generated" Blocks
        "the target computes the column by itself and takes no value: it may silently differ"
        "let both sides compute it by the same expression, or neither";
    GeneratedSource "column.generated_source" Warning
        "after the cutover no one computes the column; on the way back the source does, and a row in which the application wrote another value cannot be made equal and blocks the rollback"
        "let the target compute it as well";
    GeneratedKind "column.generated_kind" Note
        "the one side keeps the value, the other computes it when it is read"
        "nothing to do";
    Identity "column.identity" Warning
        "after the cutover an INSERT without, or with, a value for the column behaves differently"
        "make the identity alike";
    ColumnCollation "column.collation" Warning
        "texts of this column sort or compare by another order"
        "give the target's column the source's collation, or write COLLATE where the order matters";
    CollationUnique "column.collation_unique" Blocks
        "texts that differ on the source are equal on the target, whose unique index then refuses the second"
        "give the target's column a collation, or type, that tells them apart";
    ObjectId "column.object_id" Blocks
        "the value is a number that means another object, or none, in another database"
        "keep the object's name as text instead";
    LargeObject "column.large_object" Blocks
        "it may point to large objects, which are not copied: the target would point to nothing"
        "move their contents into a bytea column";
    ArrayDimensions "column.array_dimensions" Warning
        "CockroachDB has arrays of one dimension only; rows with more get stuck"
        "look whether there are any: SELECT … WHERE array_ndims(column) > 1";
    JsonStricter "column.json" Warning
        "jsonb refuses \\u0000, which json takes: rows that have it get stuck"
        "look whether there are any: SELECT … WHERE column::text LIKE '%\\u0000%'";
    InfinityBack "column.infinity" Warning
        "the one server has infinity for this type and the other, being older, has not: such values get stuck"
        "look whether there are any, and keep to finite ones";
    DomainStricter "column.domain_stricter" Blocks
        "values that the target's domain refuses get stuck"
        "take the same constraint on both sides";
    DomainLooser "column.domain_looser" Warning
        "after the cutover the target takes values that the source's domain refuses: they could not be carried back"
        "take the same constraint on both sides";
    // Constraints.
    CheckTarget "constraint.check_target" Blocks
        "rows that only the target refuses get stuck"
        "drop it on the target, or add it to the source, where it shows whether all rows agree";
    CheckSource "constraint.check_source" Warning
        "after the cutover the target takes rows that the source refuses: they could not be carried back"
        "add it to the target";
    CheckDiffers "constraint.check_differs" Warning
        "one side may refuse rows that the other takes; segue cannot tell whether the two mean the same"
        "compare them by eye, and make them alike";
    CheckNotValid "constraint.check_not_valid" Warning
        "old rows of the source need not satisfy it, and the target refuses such rows when they are copied"
        "validate it on the source";
    UniqueTarget "constraint.unique_target" Blocks
        "two rows of the source may be one and the same to the target: the second gets stuck"
        "drop it on the target, or add it to the source";
    UniqueSource "constraint.unique_source" Warning
        "after the cutover the target takes rows that the source refuses: they could not be carried back"
        "add it to the target";
    ExclusionTarget "constraint.exclusion_target" Blocks
        "rows that only the target refuses get stuck"
        "drop it on the target, or add it to the source";
    ExclusionSource "constraint.exclusion_source" Warning
        "after the cutover the target takes rows that the source refuses: they could not be carried back"
        "add it to the target, or see to it otherwise";
    ExclusionTime "constraint.exclusion_time" Warning
        "after the cutover rows that exclude one another for a moment are refused earlier or later than before: by the statement, or at the commit"
        "make DEFERRABLE alike, or accept it";
    // Foreign keys.
    ForeignKeyAdded "foreign_key.added" Warning
        "rows are copied without foreign keys being looked at: the target may end with rows that its own key forbids"
        "add it to the source as well, or drop it on the target";
    ForeignKeyAddedActive "foreign_key.added_active" Blocks
        "the target looks at every row, and rows that only it refuses get stuck"
        "drop it on the target, or add it to the source";
    ForeignKeyDropped "foreign_key.dropped" Warning
        "after the cutover nothing keeps rows from referring to nothing"
        "add it to the target";
    ForeignKeyDiffers "foreign_key.differs" Warning
        "after the cutover deletes and updates of the parent, or the time of the check, behave differently"
        "make the two alike";
    ForeignKeyOutside "foreign_key.outside" Warning
        "it refers to a table that is not migrated: what its rows refer to may not be on the other side"
        "migrate that table too, or keep it equal yourself";
    ForeignKeyOutsideActive "foreign_key.outside_active" Blocks
        "it refers to a table that is not migrated: the target refuses rows whose parent it has not"
        "migrate that table too, or drop the key on the target";
    ForeignKeyCycle "foreign_key.cycle" Note
        "the tables have no order of parents before children; rows are copied without foreign keys being looked at"
        "nothing to do";
    ForeignKeyCycleActive "foreign_key.cycle_active" Warning
        "the tables have no order of parents before children, which the target's active keys ask for"
        "drop one of them on the target until the history is copied";
    // Triggers and rules.
    TriggerAlways "trigger.always" Blocks
        "it acts even on copied rows, and would make something else of them"
        "let it fire for ordinary sessions only";
    TriggerActive "trigger.active" Blocks
        "CockroachDB knows no session_replication_role: it acts on copied rows, and would make something else of them"
        "drop it until the cutover";
    TriggerAdded "trigger.added" Warning
        "it does not act on copied rows, but after the cutover it does on the application's writes, as nothing on the source did"
        "drop it on the target, or accept it";
    TriggerDropped "trigger.dropped" Warning
        "what it does for the application's writes no one does after the cutover"
        "make it on the target as well";
    // Sequences.
    SequenceBehind "sequence.behind" Warning
        "its next numbers are in the table already: INSERTs will fail by it, after the cutover as well"
        "set it beyond the table's numbers";
    SequenceRange "sequence.range" Blocks
        "the target's sequence cannot be set beyond the source's, and would run into numbers that are taken"
        "give the target's sequence the source's bounds";
    SequenceStep "sequence.step" Warning
        "after the cutover numbers come in other steps, or again from the start"
        "make the two alike";
    SequenceOwned "sequence.owned" Note
        "dropping the column or the table leaves the sequence behind"
        "make it owned by its column";
}

/// The tables of docs/reference/check.md.
pub fn markdown() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut page = String::new();
    for severity in [Severity::Blocks, Severity::Warning, Severity::Note] {
        page += &format!(
            "\n### {severity}\n\n| finding | why it matters | the way out |\n|---|---|---|\n"
        );
        for code in Code::ALL.iter().filter(|code| code.severity() == severity) {
            page += &format!("| `{code}` | {} | {} |\n", cell(code.why()), cell(code.way_out()));
        }
    }
    page
}
