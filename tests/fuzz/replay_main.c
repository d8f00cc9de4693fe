/* Runs every file of one corpus directory through a fuzz harness, once: what a fuzzer found stays
 * found in ordinary test runs. A corpus without a file is a failure, so that a wrong path cannot
 * pass for a success. */
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes are in a block of exactly their size, so that a sanitizer sees a read past their end.
 */
static bool replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return false;
    }
    uint8_t *data = malloc(size);
    bool whole = data && fread(data, 1, size, file) == size;
    fclose(file);
    if (whole) {
        printf("%s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
    } else {
        fprintf(stderr, "%s: cannot be read\n", path);
    }
    free(data);
    return whole;
}

static bool replay_directory(const char *directory)
{
    struct dirent **entries = NULL;
    int count = scandir(directory, &entries, NULL, alphasort);
    if (count < 0) {
        perror(directory);
        return false;
    }
    bool good = true;
    size_t replayed = 0;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
            good = replay_file(path, (size_t)status.st_size) && good;
            replayed++;
        }
        free(entries[i]);
    }
    free(entries);
    printf("%zu inputs\n", replayed);
    return good && replayed > 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    return replay_directory(argv[1]) ? 0 : 1;
}
