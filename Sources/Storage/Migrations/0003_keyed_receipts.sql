-- Receipts of erasures know a user by HMAC-SHA-256 instead of the bare SHA-256, on which a list of ids can be tried.
-- The key is made here, once. An operator's own secret comes over it where there is one; its hash is what is known
-- of it here.
CREATE TABLE erasure_key (
  is_only           boolean     PRIMARY KEY DEFAULT true CHECK (is_only),
  key               bytea       NOT NULL,
  secret_check      text                                -- null: receipts are under `key` alone
);
INSERT INTO erasure_key (key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

ALTER TABLE erasure_receipts RENAME COLUMN user_sha256 TO user_hash;

-- What receipts hold already is hashed once more, so that they are found as before. HMAC (RFC 2104) of a key of 32
-- bytes, from PostgreSQL's own sha256().
DO $$
DECLARE
  inner_pad bytea := (SELECT key || decode(repeat('00', 32), 'hex') FROM erasure_key);
  outer_pad bytea := inner_pad;
BEGIN
  FOR i IN 0..63 LOOP
    inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54);
    outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92);
  END LOOP;
  UPDATE erasure_receipts SET user_hash =
    encode(sha256(outer_pad || sha256(inner_pad || convert_to(user_hash, 'UTF8'))), 'hex');
END $$;

-- Dead letters whose messages were sent again.
CREATE TABLE dead_letter_replays (
  topic             text        NOT NULL,              -- the dead letters'
  partition         integer     NOT NULL,
  "offset"          bigint      NOT NULL,
  digest            bigint      NOT NULL,              -- of timestamp, key and value: a topic made anew has other letters there
  replayed_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic, partition, "offset", digest)
);
