#include "agent/talk.h"

#include "base/err.h"

void talk_init(struct talk *talk, const struct talk_actions *actions, void *context, int64_t now)
{
    *talk = (struct talk){.actions = actions, .context = context, .heard = now, .said = now};
}

void talk_free(struct talk *talk)
{
    buf_free(&talk->question);
}

void talk_closed(struct talk *talk, const char *reason)
{
    if (talk->closed)
        return;
    talk->closed = true;
    talk->actions->close(talk->context, reason);
}

void talk_end(struct talk *talk, const char *reason)
{
    struct buf out = {0};
    if (talk->closed)
        return;
    if (!talk->mute)
        message_encode_bye(reason, &out);
    if (!out.failed && out.size)
        talk->actions->send(talk->context, buf_view(&out));
    buf_free(&out);
    talk_closed(talk, reason);
}

void talk_send(struct talk *talk, struct buf *out, int64_t now)
{
    talk->said = now;
    if (out->failed)
        talk_end(talk, "out of memory");
    else
        talk->actions->send(talk->context, buf_view(out));
    buf_free(out);
}

void talk_ping(struct talk *talk, int64_t now)
{
    struct buf out = {0};
    message_encode_ping(&out);
    talk_send(talk, &out, now);
}

void talk_ask(struct talk *talk, struct bytes question, int64_t now)
{
    struct buf out = {0};
    talk->asking = true;
    message_encode_ask(question, &out);
    talk_send(talk, &out, now);
}

void talk_answer(struct talk *talk, int rc, struct bytes answer, int64_t now)
{
    struct buf out = {0};
    struct answered message = {.failed = rc != ERR_OK,
                               .bytes = rc ? bytes_text(err_message()) : answer};
    message_encode_answer(&message, &out);
    talk_send(talk, &out, now);
}

int talk_take_question(struct talk *talk, struct bytes payload, bool working)
{
    if (working)
        return fail(ERR_PROTOCOL, "a question before the last one was answered");
    buf_reset(&talk->question);
    buf_put(&talk->question, payload.data, payload.size);
    return talk->question.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

int talk_take_answer(struct talk *talk, struct bytes payload)
{
    struct answered answer;
    int rc = message_decode_answer(payload, &answer);
    if (rc == ERR_OK && !talk->asking)
        rc = fail(ERR_PROTOCOL, "an answer to no question");
    if (rc)
        return rc;
    talk->asking = false;
    talk->actions->answered(talk->context, &answer);
    return ERR_OK;
}

int talk_take_bye(struct talk *talk, struct bytes payload)
{
    struct bytes reason;
    char text[REASON_MAX + 1];
    int rc = message_decode_bye(payload, &reason);
    if (rc)
        return rc;
    message_plain(reason, text);
    talk_closed(talk, text);
    return ERR_OK;
}
