//! The list itself.

reasons! {
    #! "Calls that cannot be understood"
    InvalidStatement "invalid.statement" "the call has no statement" "give sql, or the name of a statement in the query files";
    InvalidRequest "invalid.request" "the message is not one of the protocol, or has fields of the wrong type"
        "make the client's stubs from proto/segue/v1";
    InvalidPipelineRequest "invalid.pipeline_request" "a request of a pipeline names no call" "set one of its calls";
    InvalidParameter "invalid.parameter" "a parameter cannot be sent as the type that the statement wants"
        "send a value of that type, or cast it in the statement";
    InvalidParameterCount "invalid.parameter_count" "the call has more or fewer values than the statement has parameters"
        "give one value for each of $1, $2, …";
    InvalidNul "invalid.nul" "a text holds a NUL character, which no text of PostgreSQL may" "send such bytes as bytea";
    InvalidEncoding "invalid.encoding" "the call asks for an encoding of rows that this sidecar does not know"
        "ask Info which features there are";
    InvalidDuration "invalid.duration" "a duration is negative or out of range"
        "give one from zero to the limit that the message names";
    InvalidInterval "invalid.interval" "the interval between two answers is not above zero"
        "leave it out, or give one of at least 100 ms";
    InvalidIsolation "invalid.isolation" "the call asks for an isolation level that this sidecar does not know"
        "use one of IsolationLevel";
    InvalidKey "invalid.key" "a key is longer than it may be, or holds a NUL character" "shorten it";
    InvalidIdempotencyKey "invalid.idempotency_key" "an idempotency key was given inside a transaction"
        "leave it out: Commit tells whether the transaction took effect";
    InvalidConsistencyToken "invalid.consistency_token" "a consistency token is not one that segue made"
        "bring tokens back exactly as they came";
    InvalidTransactionId "invalid.transaction_id" "a transaction id is not 32 hexadecimal digits" "pass the one that Begin gave";
    InvalidTransactionSelector "invalid.transaction_selector" "the transaction selector names neither a transaction nor options to begin one"
        "set id or begin, or leave the selector out";
    InvalidPageToken "invalid.page_token" "a page token is not one of this list"
        "hand next_page_token back as it came, with the other fields of the request unchanged, or begin again without one";
    InvalidRate "invalid.rate" "a sampling rate is not from 0 to 1" "give a share of the reads from 0 to 1";
    InvalidResolution "invalid.resolution" "a resolution names nothing, or lacks who decided or why"
        "name an id, an actor and a reason";
    InvalidStep "invalid.step" "the change of the phase names no step" "set one of its steps";
    InvalidTable "invalid.table" "a table is not named as schema.table" "write schema.table";
    InvalidCutover "invalid.cutover" "the request for a cutover lacks a field, or has one out of range" "see the message";
    InvalidOperation "invalid.operation" "the request for an operation lacks a field, or has one out of range" "see the message";
    StatementNul "statement.nul" "the statement holds a NUL character" "take it out";
    StatementSyntax "statement.syntax" "the statement does not parse"
        "correct it; the position is that of the first word that does not fit";
    StatementTree "statement.tree" "the parser's answer could not be read: a fault of segue" "report it with the statement";
    RefusedEmpty "refused.empty" "the statement is empty" "send one SQL statement";
    RefusedMultiple "refused.multiple" "the text holds more than one statement"
        "send them as the statements of one Batch call, which is atomic as well";
    #! "Statements that segue refuses"
    RefusedWriteInQuery "refused.write_in_query" "a statement that was sent as a query would have written"
        "send statements that write through Execute, Batch or a transaction";
    RefusedTransactionControl "refused.transaction_control" "transactions are opened and ended by calls, not by SQL"
        "use the Begin, Commit and Rollback calls, or Batch";
    RefusedTwoPhase "refused.two_phase" "a prepared transaction can commit after the cutover, where the fence does not see it"
        "commit in one phase";
    RefusedSavepointInBatch "refused.savepoint_in_batch" "a savepoint would undo a part of the batch, which is applied as a whole or not at all"
        "use a transaction";
    RefusedOutsideTransaction "refused.outside_transaction" "the statement has no effect outside a transaction"
        "open one with Begin and send it there";
    RefusedSet "refused.set" "connections are shared, and a setting would reach another caller or one that segue relies on"
        "use SET LOCAL in a transaction, or set a default for the role with ALTER ROLE";
    RefusedDiscard "refused.discard" "DISCARD would throw away what segue keeps on the connection"
        "leave it out: segue resets connections itself";
    RefusedListen "refused.listen" "LISTEN belongs to one connection, and connections are shared"
        "listen on a connection of your own; to notify, SELECT pg_notify(…) in the write";
    RefusedPrepare "refused.prepare" "PREPARE names a statement of one connection, and connections are shared"
        "send the statement with parameters: segue prepares it once for all";
    RefusedCursorHold "refused.cursor_hold" "a cursor WITH HOLD outlives its transaction, and connections are shared"
        "declare it without WITH HOLD and read it inside the transaction";
    RefusedSequenceState "refused.sequence_state" "lastval() and currval() tell the last value of a session, and sessions are shared"
        "take the value from INSERT … RETURNING, or send both statements in one Batch";
    RefusedAdvisoryLock "refused.advisory_lock" "a lock of the session would stay with a shared connection, or its release would lift the migration's fence"
        "use pg_advisory_xact_lock, which needs no unlocking";
    RefusedCopy "refused.copy" "COPY has a stream of its own that the calls do not carry"
        "use INSERT with array parameters and unnest(), or COPY on a connection of your own";
    RefusedLoad "refused.load" "LOAD changes the session's server process" "set session_preload_libraries for the role";
    RefusedMaintenance "refused.maintenance" "the statement is maintenance of one database" "run it on that database directly";
    RefusedDdl "refused.ddl" "the statement changes the schema, which segue does not carry to the other side"
        "change both databases by hand: see the guide to schema changes";
    RefusedDo "refused.do" "the DO block holds a word whose effect cannot be captured"
        "send its statements through the calls, or make it a function";
    RefusedLargeObject "refused.large_object" "large objects are changed, which no trigger can capture"
        "keep the contents in a bytea column";
    RefusedTruncate "refused.truncate" "TRUNCATE cannot be captured where the table is"
        "use DELETE, in parts where the table is large";
    RefusedUnnamed "refused.unnamed" "only named statements are run here (queries.named_only)"
        "add the statement to a query file and call it by its name";
    RefusedTooDeep "refused.too_deep" "the statement nests more deeply than is safe to parse"
        "pass long lists as an array parameter, or split the statement";
    UnknownStatement "unknown.statement" "no query file has a statement of this name"
        "add it to a query file and restart the sidecar";
    #! "Statements that need one side, or both"
    RefusedBothSides "refused.both_sides" "the statement touches tables of both sides, and no database has them all"
        "split it, or copy the table to the primary and declare it in tables.stay";
    RefusedTransactionSide "refused.transaction_side" "the transaction runs on one side, and the statement needs the other"
        "run it in a transaction of its own, or declare its tables in tables.stay";
    RefusedUnknownFunction "refused.unknown_function" "the catalogue cannot tell what a function touches"
        "declare it in tables.functions";
    RefusedIdempotencyOfOwner "refused.idempotency_of_owner" "a write on a table that is not migrated cannot keep its idempotency key"
        "leave the key out, and make the statement one that may run twice";
    UnavailableCatalogue "unavailable.catalogue" "the catalogue could not be read, so that the statement cannot be routed"
        "nothing was applied; try again";
    #! "Limits"
    LimitAnswer "limit.answer" "the answer has more rows or bytes than is allowed"
        "select less, or raise limits.result_rows_max or limits.result_bytes_max";
    LimitAnswersMemory "limit.answers_memory" "the rows that writes return at the moment, of all calls, take all the memory that they may"
        "nothing was applied: try again; return less at once, or raise limits.answers_memory";
    LimitBatchStatements "limit.batch_statements" "the batch has more statements than is allowed"
        "split it, or raise limits.batch_statements_max";
    LimitCalls "limit.calls" "as many calls as are allowed run already" "try again later, or raise limits.calls_max";
    LimitConsistencyTokens "limit.consistency_tokens" "the call brings more consistency tokens than is allowed"
        "bring those of the answers since the last call";
    LimitMessageBytes "limit.message_bytes" "a message of the answer would be larger than a client takes"
        "select less at once, or raise limits.request_bytes_max and the client's own limit";
    LimitParameters "limit.parameters" "the statement has more parameters than is allowed"
        "pass an array, or raise limits.parameters_max";
    LimitPipelineCalls "limit.pipeline_calls" "as many calls of this pipeline wait as are allowed"
        "wait for answers, or open a second pipeline";
    LimitRequestBytes "limit.request_bytes" "the request is larger than is allowed"
        "send less at once, or raise limits.request_bytes_max";
    LimitStatementBytes "limit.statement_bytes" "the statement is longer than is allowed" "pass values as parameters";
    LimitStatementTokens "limit.statement_tokens" "the statement has more words and signs than is safe to parse"
        "pass values as parameters or arrays, or split it";
    LimitTransactions "limit.transactions" "as many transactions as are allowed are open"
        "end transactions sooner, or raise transactions.open_max";
    ListTooLong "list.too_long" "the list is longer than one answer may have" "resolve entries, and list again";
    IdempotencyKey "idempotency.key" "the idempotency key is empty, too long, or has characters that it may not have"
        "use letters, digits and punctuation, as the message says";
    IdempotencyContentDiffers "idempotency.content_differs" "the idempotency key was used for another write"
        "use a new key for each new write";
    IdempotencyAnswerBytes "idempotency.answer_bytes" "the answer is too large to be kept with its key; the write was undone"
        "return less, or send the call without a key";
    IdempotencyExpired "idempotency.expired" "the key expired while the call ran" "try again";
    IdempotencyNoSchema "idempotency.no_schema" "segue's table of keys is not there"
        "run segue init, or send the call without a key";
    IdempotencyResponse "idempotency.response" "the write was applied, and the answer that was kept with its key cannot be read: another version of segue has kept it, or it is damaged"
        "do not send the write again; read what it wrote";
    #! "Transactions"
    TransactionNotFound "transaction.not_found" "there is no such transaction: it was ended, was idle or open for too long, or belongs to another sidecar"
        "begin a new transaction";
    TransactionInUse "transaction.in_use" "another call runs in the transaction" "wait for its answer, or use Pipeline";
    TransactionFailed "transaction.failed" "a statement of the transaction failed, so that it can only be rolled back"
        "run it again from its beginning";
    #! "The databases and the way to them"
    ConnectionLost "connection.lost" "the connection was lost after the statement was sent"
        "see outcome: where it is UNKNOWN, repeat with the same idempotency key, or look";
    UnavailableConnect "unavailable.connect" "no session could be opened" "see the message: host, port, role, pg_hba.conf";
    UnavailableTargetSession "unavailable.target_session" "no host is of the kind that target_session_attrs asks for"
        "name the primary's host";
    UnavailablePassword "unavailable.password" "the password could not be read" "see the message: file, environment, ~/.pgpass";
    UnavailablePool "unavailable.pool" "the pool of sessions is closed" "try again; where it stays, restart the sidecar";
    UnavailablePoolWait "unavailable.pool_wait" "all sessions are in use and none was free in time"
        "raise the pool's size, or shorten transactions";
    UnavailableShutdown "unavailable.shutdown" "the sidecar is shutting down; the call was not begun"
        "repeat it at another sidecar";
    UnavailableHeld "unavailable.held" "writes are held during a change of the primary, and the call's time was over before they went on"
        "nothing was applied; try again";
    UnavailableLease "unavailable.lease" "this sidecar has no lease at the moment, so that it may not serve"
        "nothing was applied; try again, here or at another sidecar";
    UnavailableFenced "unavailable.fenced" "the primary is being changed" "nothing was applied; try again";
    UnavailableReadLock "unavailable.read_lock" "a session for reads could not be shown to be of the primary"
        "nothing was sent; try again";
    UnavailableShadow "unavailable.shadow" "the other side cannot be reached, and this needs it"
        "make it reachable, then try again";
    UnavailableIdentity "unavailable.identity" "the database is not the one that this migration has"
        "see which configuration or host name leads there; `segue adopt` takes another one on";
    UnavailableWentBack "unavailable.went_back" "the database has lost commits that it had: a backup was restored, or an old standby was promoted"
        "see the runbook: a database went back in time";
    RefusedIdentity "refused.identity" "the databases belong to another migration, or to none"
        "see which configuration names them as well";
    RefusedTransactionPooler "refused.transaction_pooler" "a transaction pooler stands between segue and the server"
        "connect to the server itself, or set the pooler to session mode";
    FenceNotPrimary "fence.not_primary" "the other side is the primary by now"
        "nothing was applied; the call is repeated there by segue itself where that is safe";
    FenceNotShadow "fence.not_shadow" "the side is the primary, or no one can tell that it is not, so that nothing is copied to it"
        "wait until the change of the primary is done";
    FenceControl "fence.control" "segue's control row is not there" "run segue init";
    ReconcileStandby "reconcile.standby" "the side is a standby, which cannot be written" "name the primary's host";
    Cancelled "cancelled" "the caller cancelled the call" "see outcome";
    Deadline "deadline" "the call's deadline passed" "see outcome; give it more time";
    #! "Control of the migration"
    ControlAbsent "control.absent" "there is no control row" "run segue init";
    ControlChanged "control.changed" "someone else changed the phase at the same moment" "look at segue phase, then try again";
    ControlEpoch "control.epoch" "the control row has an epoch that is out of range" "report it";
    ControlListen "control.listen" "the session that hears of changes was lost" "none: it is opened again";
    ControlLost "control.lost" "the control row has gone" "find out who removed it; segue init makes one";
    ControlPrimaryUnreadable "control.primary_unreadable" "the side that may be the primary cannot be read, so that no one can tell which side is"
        "make it reachable, then start again";
    ControlTimeout "control.timeout" "the control row was not read in time" "see whether the side answers";
    ControlUnreadable "control.unreadable" "the control row cannot be read"
        "it may be of a newer segue: run the version that wrote it";
    LeaseTimeout "lease.timeout" "the lease was not renewed in time" "see whether the primary answers";
    MemberId "member.id" "a member's id cannot be read" "report it";
    MemberUnreadable "member.unreadable" "a member's row cannot be read"
        "it may be of a newer segue: run the version that wrote it";
    HistoryUnreadable "history.unreadable" "the history cannot be read"
        "it may be of a newer segue: run the version that wrote it";
    IdentityUnreadable "identity.unreadable" "the identity cannot be read"
        "segue.identity and segue.control may be of a newer segue";
    PauseUnreadable "pause.unreadable" "the announcement of a pause cannot be read"
        "it may be of a newer segue: run the version that wrote it";
    #! "Phases"
    RefusedFirstPhase "refused.first_phase" "this is the first phase" "`segue phase advance` goes on";
    RefusedLastPhase "refused.last_phase" "this is the last phase" "take segue out of the way: segue capture remove";
    RefusedPhase "refused.phase" "the phase does not allow it" "see the message: it names the command that leads there";
    RefusedPhaseOrder "refused.phase_order" "the next phase is another one" "`segue phase` shows the way there";
    RefusedOwnCommand "refused.own_command" "the primary is changed by commands of their own"
        "run `segue cutover` or `segue rollback`";
    RefusedGivesUpCopy "refused.gives_up_copy" "going back would discard the copy" "say so with --give-up-copy";
    RefusedNoReason "refused.no_reason" "the change needs a reason, which is recorded" "give --reason";
    RefusedNotSettled "refused.not_settled" "not every sidecar works by the new phase yet"
        "wait, or see segue status for the one that does not answer";
    RefusedNotShift "refused.not_shift" "shares of reads are set in shift" "`segue phase` shows the way there";
    RefusedOlderWrites "refused.older_writes" "a write from before shift is still pending, and reads would miss it" "wait until segue outbox is empty";
    RefusedCapture "refused.capture" "tables cannot be captured or copied" "mend them, or name them in tables.exclude";
    RefusedCaptureInUse "refused.capture_in_use" "the phase relies on capture"
        "discard the copy first: `segue phase back --give-up-copy`";
    RefusedNotCaptured "refused.not_captured" "a table is not captured" "run segue capture install";
    RefusedNotSetUp "refused.not_set_up" "segue's tables are not there, or there is no control row" "run segue init";
    RefusedNotAdmitted "refused.not_admitted" "the role of callers' statements lacks what segue init grants" "run segue init";
    RefusedSetup "refused.setup" "segue's tables or triggers could not be set up"
        "see the message; segue init --print has the SQL";
    ShiftNoTarget "shift.no_target" "reads were routed to the target where none is shifted: a fault of segue" "report it";
    ShiftReadsOff "shift.reads_off" "reads on the target could not be switched off or on in time" "try again";
    CaptureCheck "capture.check" "it could not be looked at whether capture stands" "see whether both sides answer";
    #! "Cutover and rollback"
    RefusedBusy "refused.busy" "another change of the primary runs" "wait for its end: segue operation list";
    RefusedCaptureOff "refused.capture_off" "capture was off since the gates were judged"
        "find out who did it, run segue verify, then try again";
    RefusedDiffers "refused.differs" "rows differ" "run segue verify --repair, then try again";
    RefusedUnread "refused.unread" "a row cannot be read, so that it is not known whether it is equal"
        "mend the row, or delete it on both sides";
    RefusedUnverifiable "refused.unverifiable" "a table cannot be verified"
        "segue check says how to mend it; or name it in tables.exclude";
    RefusedOneWay "refused.one_way" "rows could not be carried back after the change"
        "mend the tables, or name them in tables.exclude";
    RefusedLongTransaction "refused.long_transaction" "a transaction has been open for so long that writes would wait for it"
        "let it end, then try again";
    RefusedPrepared "refused.prepared" "prepared transactions are open, which may commit after the change"
        "commit or roll them back, then try again";
    RefusedPause "refused.pause" "the pause is predicted to be longer than is allowed"
        "wait until the outbox is smaller, name fewer tables in cutover.full_verify, or raise --max-pause";
    RefusedFullVerify "refused.full_verify" "cutover.full_verify names a table that is not migrated"
        "correct the name, or take it out";
    CutoverFullVerify "cutover.full_verify" "the tables of cutover.full_verify were not compared within the time of the pause"
        "raise --max-pause, or name fewer tables";
    RefusedForeignWrites "refused.foreign_writes" "a program that bypasses segue has written on the side that follows"
        "see segue drift";
    RefusedForeignTransaction "refused.foreign_transaction" "a program has a transaction open on the side that follows"
        "let it end, or end it, then try again";
    RefusedSequence "refused.sequence" "a sequence cannot be moved past that of the other side" "see the message";
    RefusedRole "refused.role" "a role of cutover.read_only_roles cannot be made read-only" "see the message";
    CutoverMembers "cutover.members" "a sidecar was not ready, or did not hold its writes, in time"
        "see segue status: a call or transaction there may not end";
    CutoverPause "cutover.pause" "the pause was longer than is allowed, and the change was called off"
        "try again at a quieter time, or raise --max-pause";
    CutoverWriters "cutover.writers" "writers were left that did not end in time"
        "a transaction is not ended for a cutover: let it end, then try again";
    CutoverDrain "cutover.drain" "pending keys were not reconciled in time"
        "see segue outbox: is the shadow reachable, is a key stuck?";
    CutoverNotes "cutover.notes" "notes of writes that bypass segue were not handed over in time" "try again";
    CutoverFenceLost "cutover.fence_lost" "the fence was lost before the switch" "nothing has changed; try again";
    #! "Operations"
    OperationBusy "operation.busy" "an operation of this kind runs already" "follow it with segue operation watch, or cancel it";
    OperationCancelled "operation.cancelled" "the operation was cancelled" "none";
    OperationEnded "operation.ended" "the operation has ended" "segue operation watch shows what became of it";
    OperationNotKept "operation.not_kept" "the operation could not be recorded, so that it was not begun"
        "try again with the same operation_id";
    OperationTooLate "operation.too_late" "the switch is made, and the cutover cannot be cancelled any more"
        "wait for its end; segue rollback makes the source the primary again";
    OperationUnreadable "operation.unreadable" "the operation's record cannot be read"
        "it may be of a newer segue: ask a sidecar of that version";
    UnknownOperation "unknown.operation" "there is no operation of this id, or it was removed"
        "segue operation list shows those that are kept";
    UnknownFingerprint "unknown.fingerprint" "there is no finding of this id" "segue mismatches shows it";
    UnknownWriter "unknown.writer" "there is no such program on the list" "segue drift shows who wrote, with the id";
    #! "Tables, backfill and verify"
    RefusedTable "refused.table" "the table is not migrated, or is named twice"
        "write schema.table as the source has it; see segue tables list";
    RefusedTableExcluded "refused.table_excluded" "the configuration leaves the table out" "take it out of tables.exclude first";
    RefusedTableMigrated "refused.table_migrated" "the table is migrated: its writes would be lost"
        "name it in tables.exclude first, at every sidecar";
    RefusedTableNotRetired "refused.table_not_retired" "the table was not retired" "see segue tables list";
    RefusedTableOwn "refused.table_own" "the table is segue's own" "leave it: it is migrated as long as any table is";
    RefusedTableUnknown "refused.table_unknown" "no table of this name is known" "see segue tables list";
    RefusedTargetNotEmpty "refused.target_not_empty" "the target has rows that segue did not copy"
        "empty the tables, or use --empty-target";
    RefusedEmptyTarget "refused.empty_target" "the target may not be emptied now"
        "in shift go back first: segue phase back; otherwise stop the other backfill, or name another checkpoint file";
    RefusedCheckpoint "refused.checkpoint" "the checkpoint file is of another copy, or cannot be used" "see the message";
    CheckTable "check.table" "no table of this name is known"
        "write schema.table as the source has it; see tables.map and tables.exclude";
    VerifyTable "verify.table" "no table of this name can be verified" "write schema.table; see segue tables list";
    OutboxTable "outbox.table" "the table is not migrated, so that the outbox has no keys of it"
        "write schema.table as the primary has it";
    VerifyChunk "verify.chunk" "a part of a table could not be compared" "see the message; it is tried again";
    BackfillTable "backfill.table" "a table of the copy is not known any more" "run segue backfill again";
    BackfillCheckpoint "backfill.checkpoint" "the checkpoint file could not be written" "see the message: disk, rights";
    ReconcileLate "reconcile.late" "a batch was not applied in time" "none: it is tried again";
    ReconcileStale "reconcile.stale" "the catalogue changed while rows were read" "none: it is tried again";
    ReconcileBatch "reconcile.batch" "a batch of the outbox was given back" "none: it is tried again";
    #! "Tables that cannot be migrated"
    RefusedNoTable "refused.no_table" "the table is not there" "create it, or correct its name";
    RefusedNotATable "refused.not_a_table" "it is a view or something else that has no rows of its own"
        "migrate the tables behind it";
    RefusedNoPrimaryKey "refused.no_primary_key" "the table has no primary key, by which rows are told apart"
        "add one, or name the table in tables.exclude";
    RefusedUnlogged "refused.unlogged" "the table is unlogged, and empty after a crash" "ALTER TABLE … SET LOGGED, or exclude it";
    RefusedForeignTable "refused.foreign_table" "the rows are those of another server" "exclude it";
    RefusedPartition "refused.partition" "only a partition is named, not its table" "name the partitioned table";
    RefusedPartitionKind "refused.partition_kind" "a partition is a foreign table" "exclude the table";
    RefusedInheritance "refused.inheritance" "the table inherits from another or has heirs" "use partitions, or exclude it";
    RefusedSubscription "refused.subscription" "a subscription writes to the table" "end the subscription first";
    RefusedTargetUnfit "refused.target_unfit" "the target's table does not have what its rows need" "see the message";
    RefusedPrivilege "refused.privilege" "segue's role lacks a privilege on the table"
        "grant it: segue check prints the statement";
    RefusedRowSecurity "refused.row_security" "row security would hide rows from segue's role" "see the guide to roles";
    RefusedReplicationRole "refused.replication_role" "segue's role may not switch triggers off for its copies"
        "grant it: segue check prints the statement";
    #! "Faults of segue or of its configuration"
    ConfigDsn "config.dsn" "the connection string cannot be used" "correct it; segue config check says where";
    PoolBuild "pool.build" "a pool of sessions could not be made" "report it";
    Answer "answer" "an answer ended before its end" "report it";
    Batch "batch" "a batch of rows is shorter than it says" "report it";
    Decode "decode" "a value could not be read as its type" "ask for ENCODING_PACKED, and report it";
    Internal "internal" "a fault of segue" "report it, with the sidecar's log";
}
