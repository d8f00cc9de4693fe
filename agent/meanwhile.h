/* Work at this end of a connection while the other end is asked something: both take long where
 * they look at a whole mailbox.
 */
#ifndef SHIPLOG_AGENT_MEANWHILE_H
#define SHIPLOG_AGENT_MEANWHILE_H

/* Runs `own` in a thread of its own and `asking` in this one, and comes back when both have ended.
 * Where both fail it is the error of `asking`. */
int meanwhile(int (*own)(void *arg), void *own_arg, int (*asking)(void *arg), void *asking_arg);

#endif
