/* log_survey.h - all that can be read of a log's files, whole or damaged, without changing them: for people whose log does not
 * open.
 *
 * A record is believed by its checksum, which its position is part of: behind damage the next one that verifies is found
 * by looking at every place where one may stand. What a file held in an earlier life does not verify.
 * Memory: a segment at a time. Threads: one. Errors: 0 or a negative errno. */
#ifndef LOG_LOG_SURVEY_H
#define LOG_LOG_SURVEY_H

#include "log/log.h"

#define SURVEY_NAME_MAX 32

struct survey_segment {
    uint64_t number;
    char name[SURVEY_NAME_MAX]; /* of its file */
    bool header_lost;           /* it does not verify; which segment it is was found out by its records */
};

struct log_survey {
    struct storage *storage; /* borrowed */
    uint64_t id;
    uint32_t segment_bytes;          /* 0: neither a segment's header nor a checkpoint can be read */
    struct survey_segment *segments; /* by number; owned */
    size_t n_segments, n_spares;
    char (*unknown)[SURVEY_NAME_MAX]; /* files of which nothing can be read; owned */
    size_t n_unknown;
    struct {
        bool there, whole;
        uint64_t position, bytes;
    } checkpoints[2];
    char *state; /* of the newest whole checkpoint, NULL: there is none; owned */
    size_t state_len;
    uint64_t state_position;
};

/* Looks at every file. The caller frees the survey, also after an error. */
int log_survey_open(struct log_survey *survey, struct storage *storage);
void log_survey_free(struct log_survey *survey);

struct log_survey_events {
    /* One of the owner's kinds, by position. Anything else than 0 ends the walk. */
    int (*record)(void *arg, const struct log_record *record);
    /* So many bytes from offset on do not verify, and records were there: others stand behind them, or another segment. */
    void (*gap)(void *arg, const struct survey_segment *segment, uint32_t offset, uint32_t bytes);
    /* A segment is done, of which so much is used. */
    void (*segment)(void *arg, const struct survey_segment *segment, uint32_t used);
    /* Segments from number on are not there, though later ones are. */
    void (*missing)(void *arg, uint64_t number, uint64_t n);
};

int log_survey_walk(const struct log_survey *survey, const struct log_survey_events *events, void *arg);

/* Reads records again, best in the order of their positions. Zeros, but for the survey; log_survey_reader_free. */
struct log_survey_reader {
    const struct log_survey *survey; /* borrowed */
    struct storage_file *file;
    uint64_t number; /* of the segment that file is */
    struct log_buffer buffer;
};

/* A record that a walk found. Good until the next one is read. -ENOENT, -EBADMSG: it is not there any more. */
int log_survey_read(struct log_survey_reader *reader, uint64_t position, struct log_record *record);
void log_survey_reader_free(struct log_survey_reader *reader);

#endif
