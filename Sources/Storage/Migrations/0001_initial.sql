-- The first schema. Every stream of one user and one task is numbered without gaps (ordinal), assigned under
-- the row lock of user_task_state, so "what is new since N" never misses an event that committed late.

-- Where each partition of the behaviour topic continues. Moves in the same transaction as the rows it stands
-- for; the epoch changes with every assignment, so a consumer that lost its partition can write nothing more.
CREATE TABLE ingest_partitions (
  topic             text        NOT NULL,
  partition         integer     NOT NULL,
  next_offset       bigint      NOT NULL DEFAULT -1,   -- -1: nothing read yet, start at the beginning
  epoch             bigint      NOT NULL DEFAULT 1,
  events            bigint      NOT NULL DEFAULT 0,    -- taken into behavior_events
  duplicates        bigint      NOT NULL DEFAULT 0,    -- dropped: their event_id was there already
  dead_letters      bigint      NOT NULL DEFAULT 0,
  erasures          bigint      NOT NULL DEFAULT 0,
  updated_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic, partition)
);

CREATE TABLE user_task_state (
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  event_count       bigint      NOT NULL DEFAULT 0,    -- the ordinal of the newest event
  oldest_at         timestamptz,                       -- occurred_at of the oldest event that is kept; null: none is
  scheduled_through bigint      NOT NULL DEFAULT 0,    -- the scheduler has looked at events up to here
  monitor           bytea,                             -- state of the shift detectors
  monitor_version   integer,                           -- adapter version whose losses the detectors see
  evaluation        jsonb,                             -- the newest numbers of every detector
  pending_shift     jsonb,                             -- an alarm that waits for enough events after the change
  updated_at        timestamptz NOT NULL DEFAULT now(),
  incarnation       bigint      GENERATED ALWAYS AS IDENTITY,   -- another one once the user was erased and is back
  PRIMARY KEY (user_id, task)
);
CREATE INDEX user_task_state_oldest ON user_task_state (task, oldest_at) WHERE oldest_at IS NOT NULL;   -- retention
CREATE INDEX user_task_state_dirty ON user_task_state (updated_at)
  WHERE event_count > scheduled_through OR pending_shift IS NOT NULL;

-- In 16 parts by a hash of the user, so that a user's history is in one of them and none grows beyond what
-- vacuum and index builds can handle. COPY keeps at most 32 parts open, hence not more. An event id is unique
-- within its user: only so can each part see to it by itself.
CREATE TABLE behavior_events (
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  ordinal           bigint      NOT NULL,              -- 1, 2, 3 … within (user_id, task); retention removes old ones
  event_id          text        NOT NULL,
  kind              text        NOT NULL,              -- interaction or feedback
  occurred_at       timestamptz NOT NULL,
  input             jsonb       NOT NULL,
  output            text,
  request_id        text,
  verdict           text,                              -- of feedback: accepted, edited, rejected
  extra             jsonb,                             -- fields of the message that are not part of the contract
  topic             text        NOT NULL,
  partition         integer     NOT NULL,
  "offset"          bigint      NOT NULL,
  ingested_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, task, ordinal),
  UNIQUE (user_id, event_id)
) PARTITION BY HASH (user_id);
DO $$
BEGIN
  FOR part IN 0..15 LOOP
    EXECUTE format('CREATE TABLE behavior_events_%s PARTITION OF behavior_events
      FOR VALUES WITH (MODULUS 16, REMAINDER %s)', to_char(part, 'FM00'), part);
  END LOOP;
END $$;

-- What was answered, so that feedback to it can become history. Removed after a while.
CREATE TABLE answers (
  user_id           text        NOT NULL,
  request_id        text        NOT NULL,
  task              text        NOT NULL,
  input             jsonb       NOT NULL,
  output            text        NOT NULL,
  adapter_version   integer,                           -- null: the base model
  answered_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, request_id)
);
CREATE INDEX answers_by_age ON answers (answered_at);

CREATE TABLE shift_decisions (
  decision_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  ordinal           bigint      NOT NULL,              -- newest event that the decision knew
  action            text        NOT NULL CHECK (action IN ('train', 'wait', 'none', 'rollback')),
  reason            text        NOT NULL,              -- first_adapter, shift, new_events, age, …
  change_ordinal    bigint,                            -- estimated first event of the new behaviour
  signals           jsonb       NOT NULL,
  numbers           jsonb       NOT NULL,              -- the thresholds and counts that were compared
  job_id            bigint,
  decided_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shift_decisions_stream ON shift_decisions (user_id, task, decision_id);
CREATE INDEX shift_decisions_age ON shift_decisions (decided_at);                  -- retention

-- What the scheduler keeps of a stream beside its detectors. Only streams that were ever trained, or that have
-- to be looked at again though nothing is new, have a row here. Goes with the stream.
CREATE TABLE stream_training (
  user_id            text        NOT NULL,
  task               text        NOT NULL,
  last_train_ordinal bigint,                           -- newest event at the last decision to train
  last_train_at      timestamptz,
  last_change_ordinal bigint,                          -- where the behaviour that is trained on began, if it ever changed
  look_at            timestamptz,                      -- look again then, whatever is new
  PRIMARY KEY (user_id, task),
  FOREIGN KEY (user_id, task) REFERENCES user_task_state ON DELETE CASCADE
);
CREATE INDEX stream_training_look ON stream_training (look_at) WHERE look_at IS NOT NULL;

-- What the scheduler's leader keeps for the next one, by what it is for.
CREATE TABLE scheduler_state (
  name  text  PRIMARY KEY,
  state jsonb NOT NULL
);

-- Training jobs. Two parts: the open ones, a small table that changes all the time, and the done ones, to which
-- rows are only added. Rows move by DELETE and INSERT in one statement, never by an UPDATE of the state: that
-- would make FOR UPDATE SKIP LOCKED of other sessions fail.
CREATE SEQUENCE training_job_ids;
CREATE TABLE training_jobs (
  job_id            bigint      NOT NULL DEFAULT nextval('training_job_ids'),
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  reason            text        NOT NULL,
  change_ordinal    bigint,                            -- set for jobs that answer a shift
  state             text        NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
  attempts          integer     NOT NULL DEFAULT 0,
  folded            integer     NOT NULL DEFAULT 0,    -- further requests that this queued job took in
  -- Of an open job exactly one of the next three is set.
  place             bigint,                            -- it may be leased, in this order
  run_at            timestamptz,                       -- it waits: for this time, or for the stream's running job
  lease_expires_at  timestamptz,                       -- it runs
  lease_owner       text,
  lease_token       bigint      NOT NULL DEFAULT 0,    -- fencing token: grows with every lease
  progress          jsonb,
  result            jsonb,
  error             text,                              -- the newest
  failures          jsonb,                             -- what became of each attempt that did not succeed
  created_at        timestamptz NOT NULL DEFAULT now(),
  started_at        timestamptz,
  finished_at       timestamptz
) PARTITION BY LIST (state);
-- Vacuumed by the number of its dead rows: the share of a table that is nearly all dead rows says nothing.
CREATE TABLE training_jobs_open PARTITION OF training_jobs (
  PRIMARY KEY (job_id),
  CONSTRAINT training_jobs_one_phase CHECK (num_nonnulls(place, run_at, lease_expires_at) = 1)
) FOR VALUES IN ('queued', 'running')
  WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE training_jobs_done PARTITION OF training_jobs (PRIMARY KEY (job_id))
  FOR VALUES IN ('succeeded', 'dead', 'cancelled');
-- At most one running and one queued job of a (user, task).
CREATE UNIQUE INDEX training_jobs_one_queued  ON training_jobs_open (user_id, task) WHERE state = 'queued';
CREATE UNIQUE INDEX training_jobs_one_running ON training_jobs_open (user_id, task) WHERE state = 'running';
CREATE INDEX training_jobs_place   ON training_jobs_open (place, job_id)    WHERE place IS NOT NULL;
CREATE INDEX training_jobs_waiting ON training_jobs_open (run_at)           WHERE run_at IS NOT NULL;
CREATE INDEX training_jobs_expiry  ON training_jobs_open (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX training_jobs_history ON training_jobs_done (user_id, task, job_id);
CREATE INDEX training_jobs_age     ON training_jobs_done (finished_at);             -- retention, and the budget

-- How far the queue is: the highest place that was leased. Jobs are queued at or behind it and looked for from
-- it on, so that nobody walks over what was leased before. A sequence, because that is overwritten in place and
-- leaves no dead rows.
CREATE SEQUENCE training_virtual_time MINVALUE 0 START 0;

-- Where the last job of each kind stands: shares the places out fairly among tasks and reasons.
CREATE TABLE training_flows (
  task              text        NOT NULL,
  reason            text        NOT NULL,
  finish            bigint      NOT NULL,              -- place behind the last job
  charged           bigint      NOT NULL,              -- how far the last request moved it
  PRIMARY KEY (task, reason)
) WITH (fillfactor = 50);

-- One row: whether jobs are leased at all.
CREATE TABLE training_queue (
  only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  paused_at         timestamptz,                       -- by an operator
  pause_note        text,
  closed_until      timestamptz,                       -- by the leader: the hour's budget is used up
  closed_note       text
);
INSERT INTO training_queue DEFAULT VALUES;

CREATE TABLE adapters (
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  version           integer     NOT NULL,
  state             text        NOT NULL CHECK (state IN ('active', 'retired', 'rejected', 'rolled_back')),
  parent_version    integer,                           -- null: trained from the base model
  replaced_version  integer,                           -- active before this one; null: none was
  base_fingerprint  text        NOT NULL,
  configuration     jsonb       NOT NULL,              -- adapter_config.json in PEFT's form
  weights           bytea,                             -- adapter_model.safetensors; null once retention took it
  weights_sha256    text        NOT NULL,
  byte_count        bigint      NOT NULL,
  trained_through   bigint      NOT NULL,              -- ordinal of the newest event it was trained on
  training          jsonb       NOT NULL,              -- examples, steps, losses, seconds, seed
  gate              jsonb       NOT NULL,              -- held-out losses, their bounds, and the verdict
  profile           jsonb,                             -- what the model wrote of the user for its prompts
  promoted_after    bigint,                            -- newest event at the promotion: later ones judge it
  trial             jsonb,                             -- live losses against what it replaced, and what came of it
  job_id            bigint      NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT now(),
  promoted_at       timestamptz,
  PRIMARY KEY (user_id, task, version)
);
ALTER TABLE adapters ALTER COLUMN weights SET STORAGE EXTERNAL;   -- floats do not compress
CREATE UNIQUE INDEX adapters_one_active ON adapters (user_id, task) WHERE state = 'active';
CREATE UNIQUE INDEX adapters_one_per_job ON adapters (job_id);    -- nothing is promoted twice
CREATE INDEX adapters_inactive ON adapters (created_at) WHERE state <> 'active';   -- retention

-- Messages that must follow a committed change. The scheduler's leader publishes them in order.
CREATE TABLE outbox (
  id                bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  message_key       text        NOT NULL,
  message           jsonb       NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT now()
);

-- What stays of an erased user: that it happened, and how much was removed.
CREATE TABLE erasure_receipts (
  receipt_id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_sha256       text        NOT NULL,
  events            bigint      NOT NULL,
  adapters          bigint      NOT NULL,
  jobs              bigint      NOT NULL,
  answers           bigint      NOT NULL,
  times             bigint      NOT NULL DEFAULT 1,    -- more where it was asked for again and nothing was left
  erased_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX erasure_receipts_user ON erasure_receipts (user_sha256);
