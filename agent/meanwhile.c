#include "agent/meanwhile.h"

#include "base/err.h"

#include <pthread.h>
#include <stdio.h>

struct own {
    int (*work)(void *arg);
    void *arg;
    int rc;
    char message[512];
};

/* What an error says belongs to the thread. */
static void *run(void *arg)
{
    struct own *own = arg;
    own->rc = own->work(own->arg);
    snprintf(own->message, sizeof own->message, "%s", own->rc ? err_message() : "");
    return NULL;
}

int meanwhile(int (*own)(void *arg), void *own_arg, int (*asking)(void *arg), void *asking_arg)
{
    struct own work = {.work = own, .arg = own_arg};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &work) != 0) {
        int rc = own(own_arg);
        return rc ? rc : asking(asking_arg);
    }
    int rc = asking(asking_arg);
    pthread_join(thread, NULL);
    if (rc || work.rc == ERR_OK)
        return rc;
    return work.rc == ERR_END ? ERR_END : fail(work.rc, "%s", work.message);
}
