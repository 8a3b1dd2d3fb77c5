//! Two schemas with planted faults, and what must be found of them.

/// What the tests' servers themselves are told of: they are not durable, and may prepare; and one
/// role does everything.
pub(super) const OF_SERVERS: [&str; 8] = [
    "callers.one_role source ",
    "callers.one_role target ",
    "server.prepared_allowed source max_prepared_transactions",
    "server.prepared_allowed target max_prepared_transactions",
    "server.unsafe_disk source fsync",
    "server.unsafe_disk source full_page_writes",
    "server.unsafe_disk target fsync",
    "server.unsafe_disk target full_page_writes",
];

pub(super) const SOURCE: &str = "
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('new', 'paid', 'lost');
CREATE TYPE shop.size AS ENUM ('s', 'm', 'l');
CREATE DOMAIN shop.amount AS int CHECK (VALUE > 0);
CREATE DOMAIN shop.share AS numeric(3,2) NOT NULL;

-- Tables that cannot be migrated, or are not there.
CREATE TABLE shop.no_key (line text);
CREATE TABLE shop.gone (id int PRIMARY KEY);
CREATE UNLOGGED TABLE shop.cache (id int PRIMARY KEY);
CREATE TABLE shop.family (id int PRIMARY KEY);
CREATE TABLE shop.daughter () INHERITS (shop.family);
CREATE TABLE shop.seen (id int PRIMARY KEY);
CREATE TABLE shop.parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE shop.parted_all PARTITION OF shop.parted DEFAULT;

-- Keys.
CREATE TABLE shop.other_key (id int PRIMARY KEY, code text NOT NULL);
CREATE TABLE shop.key_order (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE shop.key_type (at timestamp(6) PRIMARY KEY);
CREATE TABLE shop.key_later (id int PRIMARY KEY);

-- Columns.
CREATE TABLE shop.things (
    id int PRIMARY KEY,
    only_here int,
    wide bigint, short varchar(20), price numeric(12,4), digits numeric(8,2), at timestamp(6),
    fixed char(4), padded char(4), mask bit(4), real_one float8, flag boolean,
    state shop.status, size shop.size, states shop.status[], amount int, share numeric(3,2),
    maybe text, filled text NOT NULL, free varchar(10), finer time(3),
    kept text DEFAULT 'a', fresh timestamptz DEFAULT now(), bare text,
    computed int, doubled int GENERATED ALWAYS AS (id * 2) STORED,
    tripled int GENERATED ALWAYS AS (id * 3) STORED,
    sorted text COLLATE \"en-x-icu\", folded text UNIQUE, mail citext, path ltree, doc json,
    span interval, class regclass, blob oid, list varchar(5)[]
);
CREATE TABLE shop.numbered (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, n serial);
CREATE TABLE shop.rows (id serial PRIMARY KEY, token varchar(20), far int DEFAULT 0);
SELECT lo_create(0);

-- Constraints.
CREATE TABLE shop.rules (
    id int PRIMARY KEY, a int, b int, c int, d int, e text,
    period int4range,
    CONSTRAINT a_source CHECK (a > 0), CONSTRAINT b_differs CHECK (b < 10),
    CONSTRAINT d_same CHECK (d IN (1, 2, 3)), CONSTRAINT same_by_name CHECK (length(e) < 5),
    CONSTRAINT no_overlap EXCLUDE USING gist (period WITH &&)
);
ALTER TABLE shop.rules ADD CONSTRAINT c_late CHECK (c > 0) NOT VALID;
CREATE UNIQUE INDEX a_unique ON shop.rules (a);
CREATE UNIQUE INDEX lower_both ON shop.rules (lower(e)) WHERE d > 1;

-- Foreign keys, triggers, rules.
CREATE TABLE shop.country (code text PRIMARY KEY);
CREATE TABLE shop.parents (id int PRIMARY KEY, friend int);
CREATE TABLE shop.children (
    id int PRIMARY KEY, parent_id int, other_id int, third_id int,
    country text REFERENCES shop.country,
    CONSTRAINT parent FOREIGN KEY (parent_id) REFERENCES shop.parents ON DELETE CASCADE,
    CONSTRAINT dropped FOREIGN KEY (other_id) REFERENCES shop.parents
);
ALTER TABLE shop.parents ADD CONSTRAINT friend FOREIGN KEY (friend) REFERENCES shop.children;
CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE shop.fired (id int PRIMARY KEY);
CREATE TRIGGER both_have AFTER INSERT ON shop.fired FOR EACH ROW EXECUTE FUNCTION shop.nothing();
CREATE TRIGGER only_here AFTER INSERT ON shop.fired FOR EACH ROW EXECUTE FUNCTION shop.nothing();
CREATE TRIGGER always_here AFTER INSERT ON shop.fired
    FOR EACH ROW EXECUTE FUNCTION shop.nothing();
ALTER TABLE shop.fired ENABLE ALWAYS TRIGGER always_here;
CREATE RULE only_rule AS ON UPDATE TO shop.fired DO ALSO SELECT 1;

-- Row security, publications, sequences.
CREATE TABLE shop.secured (id int PRIMARY KEY, owner text);
ALTER TABLE shop.secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.secured USING (owner = current_user);
CREATE PUBLICATION cdc FOR TABLE shop.secured;
CREATE TABLE shop.behind (id serial PRIMARY KEY);
INSERT INTO shop.behind (id) VALUES (7);
CREATE TABLE shop.stepped (id serial PRIMARY KEY);
CREATE SEQUENCE shop.loose;
CREATE TABLE shop.owned (id int PRIMARY KEY DEFAULT nextval('shop.loose'));
CREATE TABLE shop.full (id serial PRIMARY KEY);
SELECT setval('shop.full_id_seq', 40000);
";

pub(super) const TARGET: &str = "
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('new', 'paid', 'found');
CREATE TYPE shop.size AS ENUM ('m', 's', 'l');
CREATE DOMAIN shop.amount AS int CHECK (VALUE > 1);
CREATE DOMAIN shop.share AS numeric(3,2) NOT NULL;
CREATE EXTENSION citext;

CREATE TABLE shop.no_key (line text);
CREATE TABLE shop.cache (id int PRIMARY KEY);
CREATE TABLE shop.family (id int PRIMARY KEY);
CREATE TABLE shop.daughter (id int PRIMARY KEY);
CREATE VIEW shop.seen AS SELECT 1 AS id;
CREATE TABLE shop.parted (id int PRIMARY KEY);
CREATE TABLE shop.stray (id int PRIMARY KEY);

CREATE TABLE shop.other_key (id int, code text, PRIMARY KEY (id, code));
CREATE TABLE shop.key_order (a int, b int, PRIMARY KEY (b, a));
CREATE TABLE shop.key_type (at timestamp(3) PRIMARY KEY);
CREATE TABLE shop.key_later (id int PRIMARY KEY DEFERRABLE);

CREATE TABLE shop.things (
    id int PRIMARY KEY,
    only_there int,
    wide int, short varchar(10), price numeric(12,2), digits numeric(6,2), at timestamp(3),
    fixed char(3), padded varchar(4), mask bit(8), real_one float4, flag int,
    state shop.status, size shop.size, states shop.status[], amount shop.amount, share shop.share,
    maybe text NOT NULL, filled text, free text, finer time(6),
    kept text, fresh timestamptz DEFAULT clock_timestamp(), bare text DEFAULT 'b',
    computed int GENERATED ALWAYS AS (id + 1) STORED,
    doubled int GENERATED ALWAYS AS (id * 20) STORED,
    tripled int GENERATED ALWAYS AS (id * 3) VIRTUAL,
    sorted text COLLATE \"C\", folded citext UNIQUE, mail text, path text, doc jsonb,
    span interval, class regclass, blob oid, list varchar(4)[]
);
CREATE TABLE shop.numbered (id int PRIMARY KEY, n serial);
CREATE FUNCTION shop.unique_rowid() RETURNS int8 LANGUAGE sql AS 'SELECT 1::int8';
CREATE SEQUENCE shop.far START 5000000000;
CREATE TABLE shop.rows (
    id int8 PRIMARY KEY DEFAULT shop.unique_rowid(),
    token varchar(20) DEFAULT gen_random_uuid(), far int8 DEFAULT nextval('shop.far')
);
ALTER SEQUENCE shop.far OWNED BY shop.rows.far;

CREATE TABLE shop.rules (
    id int PRIMARY KEY, a int, b int, c int, d int, e text,
    period int4range,
    CONSTRAINT b_differs CHECK (b < 5), CONSTRAINT d_other_name CHECK (d = ANY (ARRAY[1, 2, 3])),
    CONSTRAINT same_by_name CHECK ((length(e) < 5)), CONSTRAINT c_late CHECK (c > 0),
    CONSTRAINT e_target CHECK (e <> ''), CONSTRAINT b_overlap EXCLUDE USING btree (b WITH =)
);
CREATE UNIQUE INDEX e_unique ON shop.rules (e);
CREATE UNIQUE INDEX id_a_implied ON shop.rules (a, id);
CREATE UNIQUE INDEX lower_both ON shop.rules (lower(e)) WHERE d > 1;

CREATE TABLE shop.country (code text PRIMARY KEY);
CREATE TABLE shop.parents (id int PRIMARY KEY, friend int);
CREATE TABLE shop.children (
    id int PRIMARY KEY, parent_id int, other_id int, third_id int,
    country text REFERENCES shop.country,
    CONSTRAINT parent FOREIGN KEY (parent_id) REFERENCES shop.parents,
    CONSTRAINT added FOREIGN KEY (third_id) REFERENCES shop.parents
);
ALTER TABLE shop.parents ADD CONSTRAINT friend FOREIGN KEY (friend) REFERENCES shop.children;
CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE shop.fired (id int PRIMARY KEY);
CREATE TRIGGER both_have AFTER INSERT ON shop.fired FOR EACH ROW EXECUTE FUNCTION shop.nothing();
CREATE TRIGGER only_there AFTER INSERT ON shop.fired
    FOR EACH ROW EXECUTE FUNCTION shop.nothing();
CREATE TRIGGER always_here AFTER INSERT ON shop.fired
    FOR EACH ROW EXECUTE FUNCTION shop.nothing();
ALTER TABLE shop.fired ENABLE REPLICA TRIGGER always_here;

CREATE TABLE shop.secured (id int PRIMARY KEY, owner text);
CREATE TABLE shop.behind (id serial PRIMARY KEY);
CREATE TABLE shop.stepped (id serial PRIMARY KEY);
ALTER SEQUENCE shop.stepped_id_seq INCREMENT 2;
CREATE TABLE shop.owned (id serial PRIMARY KEY);
CREATE TABLE shop.full (id int PRIMARY KEY);
CREATE SEQUENCE shop.full_id_seq AS smallint OWNED BY shop.full.id;
ALTER TABLE shop.full ALTER COLUMN id SET DEFAULT nextval('shop.full_id_seq');
";

/// Each line a planted fault, or two where one fault means two things.
pub(super) const WANTED: &[&str] = &[
    "server.large_objects source large objects",
    "server.extension_missing target ltree",
    "server.extension_version target citext",
    "column.no_counterpart target shop.things.path",
    "table.no_primary_key source shop.no_key",
    "table.missing target shop.gone",
    "table.unlogged source shop.cache",
    "table.inheritance source shop.family",
    "table.inheritance source shop.daughter",
    "table.not_a_table target shop.seen",
    "table.partitioned target shop.parted",
    "table.only_on_target target shop.stray",
    "key.columns target shop.other_key",
    "key.order target shop.key_order",
    "key.type target shop.key_type.at",
    "column.coarser_unique target shop.key_type.at",
    "key.deferrable target shop.key_later.key_later_pkey",
    "column.missing target shop.things.only_here",
    "column.missing source shop.things.only_there",
    "column.narrower target shop.things.wide",
    "column.narrower target shop.things.short",
    "column.narrower target shop.things.price",
    "column.wider source shop.things.price",
    "column.narrower target shop.things.digits",
    "column.coarser target shop.things.at",
    "column.narrower target shop.things.fixed",
    "column.coarser target shop.things.padded",
    "column.wider source shop.things.padded",
    "column.narrower target shop.things.mask",
    "column.wider source shop.things.mask",
    "column.narrower target shop.things.real_one",
    "column.no_counterpart target shop.things.flag",
    "column.enum_labels target shop.things.state",
    "column.enum_labels_back source shop.things.state",
    "column.enum_labels target shop.things.states",
    "column.enum_labels_back source shop.things.states",
    "column.enum_order target shop.things.size",
    "column.domain_stricter target shop.things.amount",
    "column.not_null target shop.things.share",
    "column.not_null target shop.things.maybe",
    "column.nullable target shop.things.filled",
    "column.wider source shop.things.free",
    "column.finer source shop.things.finer",
    "column.default_missing target shop.things.kept",
    "column.default_differs target shop.things.fresh",
    "column.default_added target shop.things.bare",
    "column.generated target shop.things.computed",
    "column.generated target shop.things.doubled",
    "column.generated_kind target shop.things.tripled",
    "column.collation target shop.things.sorted",
    "column.collation_unique target shop.things.folded",
    "column.collation target shop.things.mail",
    "column.coarser target shop.things.doc",
    "column.json target shop.things.doc",
    "column.infinity source shop.things.span",
    "column.object_id source shop.things.class",
    "column.large_object source shop.things.blob",
    "column.narrower target shop.things.list",
    "column.identity target shop.numbered.id",
    "column.wider source shop.rows.id",
    "column.default_too_big source shop.rows.id",
    "column.default_too_big source shop.rows.token",
    "column.default_added target shop.rows.token",
    "column.wider source shop.rows.far",
    "column.default_too_big source shop.rows.far",
    "constraint.check_source target shop.rules.a_source",
    "constraint.check_differs target shop.rules.b_differs",
    "constraint.check_not_valid source shop.rules.c_late",
    "constraint.check_target target shop.rules.e_target",
    "constraint.exclusion_source target shop.rules.no_overlap",
    "constraint.exclusion_target target shop.rules.b_overlap",
    "constraint.unique_source target shop.rules.a_unique",
    "constraint.unique_target target shop.rules.e_unique",
    "foreign_key.differs target shop.children.parent",
    "foreign_key.dropped target shop.children.dropped",
    "foreign_key.added target shop.children.added",
    "foreign_key.outside target shop.children.children_country_fkey",
    "foreign_key.cycle target shop.children",
    "trigger.dropped target shop.fired.trigger only_here",
    "trigger.dropped target shop.fired.rule only_rule",
    "trigger.added target shop.fired.trigger only_there",
    "trigger.always source shop.fired.trigger always_here",
    "trigger.always target shop.fired.trigger always_here",
    "callers.unprotected source shop.secured",
    "table.row_security target shop.secured",
    "table.row_security target shop.secured.own",
    "table.published source shop.secured.cdc",
    "sequence.behind source shop.behind.id",
    "sequence.step target shop.stepped.id",
    "sequence.owned source shop.owned.id",
    "sequence.range target shop.full.id",
];
