/* A repair's thread beside its loop: questions and answers pass one at a time, and it ends once,
 * whatever comes first. */
#include "agent/repairer.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define QUESTIONS 500u

enum reaction { ANSWERS, DENIES, CANCELS };

/* `asked` … are the loop's, the others the thread's until done() was called. */
struct scene {
    uv_loop_t loop;
    struct repairer *repairer;
    enum reaction reaction;
    unsigned asked;
    unsigned ended;
    int rc;
    char message[256];
    unsigned wanted; /* questions */
    unsigned right;  /* answers that were those to their questions */
    unsigned failed;
};

static int work(void *context, const struct asker *asker)
{
    struct scene *scene = context;
    struct buf answer = {0};
    int rc = ERR_OK;
    for (uint32_t i = 0; i < scene->wanted; i++) {
        uint8_t question[4];
        save_u32(question, i);
        buf_reset(&answer);
        rc = asker->ask(asker->context, bytes_of(question, sizeof question), &answer);
        if (rc)
            scene->failed++;
        else if (answer.size == 4 && load_u32(answer.data) == i + 1)
            scene->right++;
    }
    buf_free(&answer);
    return rc;
}

static void on_question(void *context, struct bytes question)
{
    struct scene *scene = context;
    uint8_t bytes[4] = {0};
    struct answered answer = {.bytes = bytes_of(bytes, sizeof bytes)};
    scene->asked++;
    if (scene->reaction == CANCELS) {
        repairer_cancel(scene->repairer);
        return;
    }
    if (scene->reaction == DENIES)
        answer = (struct answered){.failed = true, .bytes = bytes_text("it is asleep")};
    else
        save_u32(bytes, load_u32(question.data) + 1);
    repairer_answer(scene->repairer, &answer);
    /* An answer that nobody waits for is nobody's. */
    if (scene->asked == scene->wanted)
        repairer_answer(scene->repairer, &answer);
}

static void on_end(void *context, int rc)
{
    struct scene *scene = context;
    scene->ended++;
    scene->rc = rc;
    if (rc)
        snprintf(scene->message, sizeof scene->message, "%s", err_message());
}

static const struct repairer_work repair = {.run = work, .ask = on_question, .done = on_end};

static void begin(struct scene *scene)
{
    assert_int_equal(uv_loop_init(&scene->loop), 0);
    assert_int_equal(repairer_start(&scene->loop, &repair, scene, &scene->repairer), ERR_OK);
    assert_non_null(scene->repairer);
    assert_int_equal(scene->ended, 0);
}

/* The loop ends by itself when the repair is gone. */
static void play(struct scene *scene)
{
    uv_run(&scene->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&scene->loop), 0);
    assert_int_equal(scene->ended, 1);
}

static void every_question_gets_its_own_answer(void **state)
{
    struct scene scene = {.wanted = QUESTIONS};
    (void)state;
    begin(&scene);
    play(&scene);
    assert_int_equal(scene.rc, ERR_OK);
    assert_int_equal(scene.asked, QUESTIONS);
    assert_int_equal(scene.right, QUESTIONS);
}

static void a_repair_that_asks_nothing_ends(void **state)
{
    struct scene scene = {0};
    (void)state;
    begin(&scene);
    play(&scene);
    assert_int_equal(scene.rc, ERR_OK);
    assert_int_equal(scene.asked, 0);
}

static void what_the_other_end_cannot_tell_is_an_error_with_its_words(void **state)
{
    struct scene scene = {.wanted = 1, .reaction = DENIES};
    (void)state;
    begin(&scene);
    play(&scene);
    assert_int_equal(scene.rc, ERR_PEER);
    assert_non_null(strstr(scene.message, "it is asleep"));
}

static void when_the_connection_ends_every_question_fails(void **state)
{
    struct scene scene = {.wanted = 3, .reaction = CANCELS};
    (void)state;
    begin(&scene);
    play(&scene);
    assert_int_equal(scene.rc, ERR_PEER);
    assert_int_equal(scene.failed, 3);
    assert_int_equal(scene.asked, 1);
    assert_non_null(strstr(scene.message, "connection"));
}

static void a_connection_may_end_before_the_first_question(void **state)
{
    struct scene scene = {.wanted = 3};
    (void)state;
    begin(&scene);
    repairer_cancel(scene.repairer);
    play(&scene);
    assert_int_equal(scene.rc, ERR_PEER);
    assert_int_equal(scene.failed, 3);
    assert_int_equal(scene.asked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_gets_its_own_answer),
        cmocka_unit_test(a_repair_that_asks_nothing_ends),
        cmocka_unit_test(what_the_other_end_cannot_tell_is_an_error_with_its_words),
        cmocka_unit_test(when_the_connection_ends_every_question_fails),
        cmocka_unit_test(a_connection_may_end_before_the_first_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
