-- Catalog of a store, schema version 5. All indexes of the store can be rebuilt from the catalog.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Folders to which the paths of sources are relative. `twinscope store relocate` changes the path of a folder.
CREATE TABLE roots (
    id   INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE           -- TEXT, or BLOB if a file name is not valid UTF-8
);

CREATE TABLE images (
    id               INTEGER PRIMARY KEY,  -- 63 bits of the BLAKE2b hash of the root's name and the path below the root
    root_id          INTEGER NOT NULL REFERENCES roots (id),
    path             BLOB NOT NULL,
    member           BLOB,                 -- path inside the archive, or NULL if the image is in no archive
    size             INTEGER NOT NULL,     -- bytes
    mtime_ns         INTEGER NOT NULL,
    sha256           BLOB NOT NULL,
    format           TEXT NOT NULL,
    mode             TEXT NOT NULL,
    bits             INTEGER NOT NULL,
    width            INTEGER NOT NULL,
    height           INTEGER NOT NULL,
    hash             BLOB,                 -- 128 bytes; NULL if the image is unhashable
    unhashable       TEXT,                 -- reason why the image is unhashable, or NULL if it has a hash
    recipe           TEXT NOT NULL,
    category         TEXT NOT NULL,
    code             TEXT NOT NULL,
    taxonomy         TEXT NOT NULL,
    published_prefix TEXT,
    indexed_at       TEXT NOT NULL,        -- UTC, ISO 8601
    generation       INTEGER NOT NULL,     -- first generation that contains the image with this content
    page             INTEGER NOT NULL DEFAULT 0,  -- number of the page of a stack, from 1; 0 if the file is one image
    pages            INTEGER NOT NULL DEFAULT 0,  -- number of images in the file; 0 if they were not counted
    CHECK ((hash IS NULL) <> (unhashable IS NULL)),
    CHECK (hash IS NULL OR length(hash) = 128)
);
CREATE UNIQUE INDEX images_by_source ON images (root_id, path, ifnull(member, ''), page);
CREATE INDEX images_by_generation ON images (generation);

-- Thumbnails are not in the table of images, so that scanning that table stays fast. A thumbnail is written before the
-- row of its image, so that every indexed image has its thumbnail.
CREATE TABLE thumbnails (
    id   INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

-- Hashes of the frames of an image, 128 bytes for each frame, in the order of hashing.frames.reference_frames. An
-- unhashable image has no row in this table. The hash of a very small frame is zero.
CREATE TABLE frames (
    id    INTEGER PRIMARY KEY,
    codes BLOB NOT NULL
);

-- Metadata that the instrument wrote into the image file or into a side file. An image without metadata has no row.
CREATE TABLE instruments (
    id       INTEGER PRIMARY KEY,
    metadata TEXT NOT NULL,             -- JSON, in units that are the same for all instruments
    verbatim BLOB NOT NULL              -- original metadata of the instrument as JSON, compressed with zlib
);

-- Images that were deleted after the newest index file was written. That file still holds the hashes of these images.
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
    at      TEXT NOT NULL,
    page    INTEGER NOT NULL DEFAULT 0  -- as in the table of images
);
CREATE UNIQUE INDEX failures_by_source ON failures (root_id, path, ifnull(member, ''), page);

-- Published states of the store, which readers see. `file` is the name of an index file that was made from the images
-- of all generations up to `number`.
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    images INTEGER NOT NULL,
    recipe TEXT NOT NULL,
    file   TEXT,
    sha256 TEXT,
    at     TEXT NOT NULL
);

-- Shadow tables: published rows that a write has changed or removed but not published yet; see shadow.py. They have the
-- columns of the original tables, but not the constraints.
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
