-- Whose offsets ingest's are. A topic that is deleted and made anew under its name has the same offsets with other
-- messages; so two messages that were read stand for the log, and are read back from it to know it again.
ALTER TABLE ingest_partitions
  ADD COLUMN log_number    bigint  NOT NULL DEFAULT 0,  -- raised where another log came in this one's place; part of derived event ids
  ADD COLUMN anchor_offset bigint,                      -- the oldest message read that the log still has, as far as is known
  ADD COLUMN anchor_digest bigint,
  ADD COLUMN last_offset   bigint,                      -- the newest message read
  ADD COLUMN last_digest   bigint,
  ADD COLUMN missing       bigint  NOT NULL DEFAULT 0,  -- messages that are known to have been lost or passed over
  ADD COLUMN gap           jsonb,                       -- why the partition waits; null: it does not
  ADD COLUMN released      boolean NOT NULL DEFAULT false; -- an operator put it elsewhere, and nobody has claimed it since

-- An operator's erasure holds for messages that were sent before it, whenever they are read: again after a reset,
-- or for the first time because the broker was away.
ALTER TABLE erasure_receipts
  ADD COLUMN erased_before timestamptz;                 -- null: a message in the topic asked for it, and its place counts
CREATE INDEX erasure_receipts_before ON erasure_receipts (erased_before) WHERE erased_before IS NOT NULL;
ALTER TABLE ingest_partitions
  ADD COLUMN forgotten     bigint  NOT NULL DEFAULT 0;  -- dropped: sent before their user was erased

-- Operators' erasures that the topic has not been told of yet.
CREATE TABLE erasures_to_tell (
  message_key       text        PRIMARY KEY,
  erased_before     timestamptz NOT NULL
);
