-- The catalog of a store: every index can be rebuilt from it. Schema version 4.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Folders that source paths are relative to; `twinscope store relocate` changes their path.
CREATE TABLE roots (
    id   INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE           -- TEXT, or BLOB if a file name is not valid UTF-8
);

CREATE TABLE images (
    id               INTEGER PRIMARY KEY,  -- 63 bits of BLAKE2b of the root's name and the path below it
    root_id          INTEGER NOT NULL REFERENCES roots (id),
    path             BLOB NOT NULL,
    member           BLOB,                 -- path within the archive, else NULL
    size             INTEGER NOT NULL,     -- bytes
    mtime_ns         INTEGER NOT NULL,
    sha256           BLOB NOT NULL,
    format           TEXT NOT NULL,
    mode             TEXT NOT NULL,
    bits             INTEGER NOT NULL,
    width            INTEGER NOT NULL,
    height           INTEGER NOT NULL,
    hash             BLOB,                 -- 128 bytes; NULL if the image is unhashable
    unhashable       TEXT,                 -- why the image is unhashable, else NULL
    recipe           TEXT NOT NULL,
    category         TEXT NOT NULL,
    code             TEXT NOT NULL,
    taxonomy         TEXT NOT NULL,
    published_prefix TEXT,
    indexed_at       TEXT NOT NULL,        -- UTC, ISO 8601
    generation       INTEGER NOT NULL,     -- the first generation that has the image with this content
    CHECK ((hash IS NULL) <> (unhashable IS NULL)),
    CHECK (hash IS NULL OR length(hash) = 128)
);
CREATE UNIQUE INDEX images_by_source ON images (root_id, path, ifnull(member, ''));
CREATE INDEX images_by_generation ON images (generation);

-- Separate from the images, so that scanning those stays fast. Written before the image's row, so that no indexed file
-- lacks its thumbnail.
CREATE TABLE thumbnails (
    id   INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

-- Hashes of the frames of an image, 128 bytes each, in the order of frames.reference_frames. Unhashable images have no
-- row; the hashes of very small frames are zero.
CREATE TABLE frames (
    id    INTEGER PRIMARY KEY,
    codes BLOB NOT NULL
);

-- What the instrument wrote into the file or into a side file; no row if it wrote nothing.
CREATE TABLE instruments (
    id       INTEGER PRIMARY KEY,
    metadata TEXT NOT NULL,             -- JSON, in one set of units
    verbatim BLOB NOT NULL              -- as written by the instrument: JSON, compressed with zlib
);

-- Images that were deleted after the newest index file was written, which still holds them.
CREATE TABLE deletions (
    id         INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (id, generation)
) WITHOUT ROWID;

CREATE TABLE failures (
    root_id INTEGER NOT NULL REFERENCES roots (id),
    path    BLOB NOT NULL,
    member  BLOB,
    fault   TEXT NOT NULL,
    message TEXT NOT NULL,
    at      TEXT NOT NULL
);
CREATE UNIQUE INDEX failures_by_source ON failures (root_id, path, ifnull(member, ''));

-- What readers see. A row with a file names a published index file, made from all rows up to its number.
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    images INTEGER NOT NULL,
    recipe TEXT NOT NULL,
    file   TEXT,
    sha256 TEXT,
    at     TEXT NOT NULL
);

-- The published rows that an unpublished write has changed or removed (shadow.py): tables with the same columns, without
-- the constraints.
CREATE TABLE images_before AS SELECT * FROM images LIMIT 0;
CREATE UNIQUE INDEX images_before_by_id ON images_before (id);
CREATE TABLE thumbnails_before AS SELECT * FROM thumbnails LIMIT 0;
CREATE UNIQUE INDEX thumbnails_before_by_id ON thumbnails_before (id);
CREATE TABLE frames_before AS SELECT * FROM frames LIMIT 0;
CREATE UNIQUE INDEX frames_before_by_id ON frames_before (id);
CREATE TABLE instruments_before AS SELECT * FROM instruments LIMIT 0;
CREATE UNIQUE INDEX instruments_before_by_id ON instruments_before (id);
CREATE TABLE meta_before AS SELECT * FROM meta LIMIT 0;
CREATE UNIQUE INDEX meta_before_by_key ON meta_before (key);
