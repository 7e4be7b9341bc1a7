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
  monitor           jsonb,                             -- state of the shift detectors
  monitor_version   integer,                           -- adapter version whose losses the detectors see
  evaluation        jsonb,                             -- the newest numbers of every detector
  pending_shift     jsonb,                             -- an alarm that waits for enough events after the change
  updated_at        timestamptz NOT NULL DEFAULT now(),
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
  action            text        NOT NULL CHECK (action IN ('train', 'wait', 'none')),
  reason            text        NOT NULL,              -- first_adapter, shift, new_events, …
  change_ordinal    bigint,                            -- estimated first event of the new behaviour
  signals           jsonb       NOT NULL,
  numbers           jsonb       NOT NULL,              -- the thresholds and counts that were compared
  job_id            bigint,
  decided_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shift_decisions_stream ON shift_decisions (user_id, task, decision_id);

CREATE TABLE training_jobs (
  job_id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  reason            text        NOT NULL,
  change_ordinal    bigint,                            -- set for jobs that answer a shift
  state             text        NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
  attempts          integer     NOT NULL DEFAULT 0,
  run_at            timestamptz NOT NULL DEFAULT now(),
  lease_owner       text,
  lease_token       bigint      NOT NULL DEFAULT 0,    -- fencing token: grows with every lease
  lease_expires_at  timestamptz,
  progress          jsonb,
  result            jsonb,
  error             text,
  created_at        timestamptz NOT NULL DEFAULT now(),
  started_at        timestamptz,
  finished_at       timestamptz
);
-- At most one running and one queued job of a (user, task).
CREATE UNIQUE INDEX training_jobs_one_queued  ON training_jobs (user_id, task) WHERE state = 'queued';
CREATE UNIQUE INDEX training_jobs_one_running ON training_jobs (user_id, task) WHERE state = 'running';
CREATE INDEX training_jobs_due ON training_jobs (run_at, job_id) WHERE state IN ('queued', 'running');

CREATE TABLE adapters (
  user_id           text        NOT NULL,
  task              text        NOT NULL,
  version           integer     NOT NULL,
  state             text        NOT NULL CHECK (state IN ('candidate', 'active', 'retired', 'rejected')),
  parent_version    integer,                           -- null: trained from the base model
  base_fingerprint  text        NOT NULL,
  configuration     jsonb       NOT NULL,              -- adapter_config.json in PEFT's form
  weights           bytea,                             -- adapter_model.safetensors; null for a rejected one
  weights_sha256    text        NOT NULL,
  byte_count        bigint      NOT NULL,
  trained_through   bigint      NOT NULL,              -- ordinal of the newest event it was trained on
  training          jsonb       NOT NULL,              -- examples, steps, losses, seconds, seed
  gate              jsonb       NOT NULL,              -- held-out losses of parent and candidate, and the verdict
  job_id            bigint      NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT now(),
  promoted_at       timestamptz,
  PRIMARY KEY (user_id, task, version)
);
ALTER TABLE adapters ALTER COLUMN weights SET STORAGE EXTERNAL;   -- floats do not compress
CREATE UNIQUE INDEX adapters_one_active ON adapters (user_id, task) WHERE state = 'active';
CREATE UNIQUE INDEX adapters_one_per_job ON adapters (job_id);    -- nothing is promoted twice

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
