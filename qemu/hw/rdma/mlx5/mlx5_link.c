/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The link: a connection to the adapters of another process.
 *
 * One adapter has the character device, and all adapters of its fabric use it;
 * the same on the other side.  Each side says by HELLO which LIDs it has, when
 * the connection begins and when that changes.  Nothing is passed on from one
 * link to another.
 *
 * What is written waits in a queue of limited length while the other process
 * does not read.  When that is full, frames are lost, as they are when there is
 * no connection: a requester's timer deals with it.  What is read waits, in a
 * buffer that makes the sender wait in its turn, for a timer of the virtual
 * clock.  So a machine that is stopped is silent, and work for requests of
 * others has the limit of all work (mlx5_xlt.h).
 *
 * A frame that no adapter makes ends the connection, and is reported.  The next
 * connection begins with nothing but HELLO: what the queue pairs know of each
 * other is in them.
 */
#include "mlx5_link.h"
#include "qemu/error-report.h"
#include "trace.h"

enum {
    FRAMES_PER_RUN = 16,
    MAX_OUT = 4 * MiB,
    FLUSHED = 256 * KiB,                /* then their place is given back */
};

struct Mlx5Link {
    Mlx5Device *dev;                    /* has the character device */
    bool up;
    QEMUTimer *timer;                   /* reads what has come */
    GByteArray *in, *out;
    size_t sent;                        /* bytes of out */
    guint watch;                        /* 0: out does not wait */
    unsigned long *ours, *theirs;       /* bit a LID: ever said, said last */
};

/* ---- which link ---- */

bool mlx5_link_knows(Mlx5Device *dev, uint16_t lid)
{
    return dev->link && test_bit(lid, dev->link->theirs);
}

bool mlx5_link_there(Mlx5Device *dev)
{
    Mlx5Device *other = NULL;

    while ((other = mlx5_fabric_next(dev, other))) {
        if (other->link) {
            return true;
        }
    }
    return false;
}

static Mlx5Link *link_to(Mlx5Device *dev, uint16_t lid)
{
    Mlx5Device *other = NULL;

    while (!dev->removed && (other = mlx5_fabric_next(dev, other))) {
        if (mlx5_link_knows(other, lid)) {
            return other->link;
        }
    }
    return NULL;
}

bool mlx5_link_reaches(Mlx5Device *dev, uint16_t lid)
{
    return link_to(dev, lid);
}

/* ---- writing ---- */

static void link_flush(Mlx5Link *link);

static gboolean link_writable(void *chr, GIOCondition condition, void *opaque)
{
    Mlx5Link *link = opaque;

    link->watch = 0;
    link_flush(link);
    return G_SOURCE_REMOVE;
}

/* An error ends the connection, which is then an event. */
static void link_flush(Mlx5Link *link)
{
    int n = 1;

    while (link->up && !link->watch && link->sent < link->out->len && n > 0) {
        n = qemu_chr_fe_write(&link->dev->chr, link->out->data + link->sent,
                              link->out->len - link->sent);
        link->sent += MAX(n, 0);
    }
    if (link->sent == link->out->len || link->sent >= FLUSHED) {
        g_byte_array_remove_range(link->out, 0, link->sent);
        link->sent = 0;
    }
    if (link->up && !link->watch && link->out->len) {
        link->watch = qemu_chr_fe_add_watch(&link->dev->chr,
                                            G_IO_OUT | G_IO_HUP, link_writable,
                                            link);
    }
}

/* Is it this frame's turn to be lost? */
static bool link_loses(Mlx5Link *link)
{
    uint64_t loss = link->dev->knob[MLX5_KNOB_LINK_LOSS];

    return link->dev->removed || link->dev->knob[MLX5_KNOB_LINK_DOWN] ||
           (loss && mlx5_random(link->dev) % loss == 0);
}

static void link_send(Mlx5Link *link, const Mlx5Frame *frame)
{
    bool hello = frame->type == MLX5_FRAME_HELLO;

    if (!link->up || (!hello && (link->out->len > MAX_OUT ||
                                 link_loses(link)))) {
        return;
    }
    mlx5_count(link->dev, MLX5_COUNTER_LINK_FRAMES, 1);
    mlx5_wire_put(link->out, frame);
    link_flush(link);
}

void mlx5_link_request(Mlx5Device *dev, const Mlx5Head *head,
                       const uint8_t *data)
{
    bool read = head->opcode == MLX5_OPCODE_RDMA_READ;
    Mlx5Link *link = link_to(dev, head->dlid);
    Mlx5Frame frame = {
        .type = MLX5_FRAME_REQUEST, .head = *head, .data = data,
        .len = read ? 0 : head->size,
    };

    trace_mlx5_link_request(head->sqpn, head->dlid, head->dqpn, head->seq,
                            head->off, head->size);
    if (link) {
        link_send(link, &frame);
    }
}

void mlx5_link_answer(Mlx5Device *dev, const Mlx5Frame *frame)
{
    Mlx5Link *link = link_to(dev, frame->head.dlid);

    trace_mlx5_link_answer(frame->head.dqpn, frame->head.seq,
                           frame->reply.answer, frame->reply.done);
    if (link) {
        link_send(link, frame);
    }
}

void mlx5_link_datagram(Mlx5Device *dev, const Mlx5Head *head,
                        const uint8_t *data)
{
    bool all = head->dlid >= MLX5_LID_MULTICAST;
    Mlx5Frame frame = {
        .type = MLX5_FRAME_DATAGRAM, .head = *head, .data = data,
        .len = head->size,
    };
    Mlx5Device *other = NULL;

    while (!dev->removed && (other = mlx5_fabric_next(dev, other))) {
        if (other->link && (all || mlx5_link_knows(other, head->dlid))) {
            link_send(other->link, &frame);
        }
    }
}

/* ---- HELLO ---- */

static void hello_send(Mlx5Link *link)
{
    g_autoptr(GByteArray) lids = g_byte_array_new();
    Mlx5Frame frame = { .type = MLX5_FRAME_HELLO };
    Mlx5Device *dev = NULL;

    while ((dev = mlx5_fabric_next(link->dev, dev))) {
        uint16_t lid = cpu_to_be16(dev->lid);

        set_bit(dev->lid, link->ours);
        g_byte_array_append(lids, (uint8_t *)&lid, sizeof(lid));
    }
    frame.data = lids->data;
    frame.len = lids->len;
    link_send(link, &frame);
}

void mlx5_link_announce(Mlx5Device *dev)
{
    Mlx5Device *other = NULL;

    while ((other = mlx5_fabric_next(dev, other))) {
        if (other->link && other->link->up) {
            hello_send(other->link);
        }
    }
}

/* Is there an adapter of that LID already, here or over another link? */
static bool collides(Mlx5Link *link, uint16_t lid)
{
    Mlx5Device *dev = NULL;

    while ((dev = mlx5_fabric_next(link->dev, dev))) {
        if (dev->lid == lid ||
            (dev->link != link && mlx5_link_knows(dev, lid))) {
            return true;
        }
    }
    return false;
}

static const char *on_hello(Mlx5Link *link, const Mlx5Frame *frame)
{
    bitmap_zero(link->theirs, MLX5_NR_LIDS);
    for (size_t i = 0; i < frame->len; i += 2) {
        uint16_t lid = lduw_be_p(frame->data + i);

        if (!lid || lid >= MLX5_LID_SM) {
            return "a LID that no adapter has";
        }
        if (collides(link, lid)) {
            return "a LID that is in use on both sides";
        }
        set_bit(lid, link->theirs);
    }
    return NULL;
}

/* ---- reading ---- */

static const char *on_frame(Mlx5Link *link, const Mlx5Frame *frame)
{
    const Mlx5Head *head = &frame->head;

    mlx5_count(link->dev, MLX5_COUNTER_LINK_FRAMES, 1);
    if (frame->type == MLX5_FRAME_HELLO) {
        return on_hello(link, frame);
    }
    if (!test_bit(head->slid, link->theirs)) {
        return "a LID that is not theirs";
    }
    /* One that has left by now is no offence. */
    if (!test_bit(head->dlid, link->ours) &&
        !(frame->type == MLX5_FRAME_DATAGRAM &&
          head->dlid >= MLX5_LID_MULTICAST)) {
        return "a LID that is not ours";
    }
    return link_loses(link) ? NULL : mlx5_remote_frame(link->dev, frame);
}

static void link_drop(Mlx5Link *link, const char *why)
{
    if (mlx5_may_report(link->dev)) {
        warn_report("mlx5: the link of LID %u is closed, for it brought %s",
                    link->dev->lid, why);
    }
    qemu_chr_fe_disconnect(&link->dev->chr);
}

/* True: there may be more of them. */
static bool link_next(Mlx5Link *link, size_t *taken)
{
    const char *why = NULL;
    Mlx5Frame frame;
    ssize_t n = mlx5_wire_get(link->in->data + *taken, link->in->len - *taken,
                              &frame, &why);

    if (!n) {
        return false;
    }
    if (n > 0) {
        *taken += n;
        why = on_frame(link, &frame);
    }
    if (why) {
        link_drop(link, why);
    }
    return link->up;
}

static void link_timer(void *opaque)
{
    Mlx5Link *link = opaque;
    int64_t pause = mlx5_work_pause();
    bool more = link->up;
    size_t taken = 0;

    for (int n = 0; n < FRAMES_PER_RUN && more && !pause &&
         !mlx5_work_spent(); n++) {
        more = link_next(link, &taken);
    }
    /* Frames of a connection that has ended are lost. */
    g_byte_array_remove_range(link->in, 0, link->up ? taken : link->in->len);
    if (link->up && more) {
        timer_mod_ns(link->timer,
                     qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + pause);
    }
    qemu_chr_fe_accept_input(&link->dev->chr);
}

/* ---- the character device ---- */

static int link_can_read(void *opaque)
{
    Mlx5Link *link = opaque;

    return 2 * mlx5_wire_longest() - MIN(link->in->len,
                                         2 * mlx5_wire_longest());
}

static void link_read(void *opaque, const uint8_t *buf, int len)
{
    Mlx5Link *link = opaque;

    g_byte_array_append(link->in, buf, len);
    timer_mod_ns(link->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
}

/*
 * The connection may end in the middle of a write or of a frame's work, which
 * check .up afterwards.  The buffers are emptied by the next connection.
 */
static void link_event(void *opaque, QEMUChrEvent event)
{
    Mlx5Link *link = opaque;

    trace_mlx5_link_event(link->dev->lid, event);
    switch (event) {
    case CHR_EVENT_OPENED:
        link->up = true;
        link->sent = 0;
        g_byte_array_set_size(link->in, 0);
        g_byte_array_set_size(link->out, 0);
        bitmap_zero(link->ours, MLX5_NR_LIDS);
        hello_send(link);
        break;
    case CHR_EVENT_CLOSED:
        link->up = false;
        bitmap_zero(link->theirs, MLX5_NR_LIDS);
        if (link->watch) {
            g_source_remove(link->watch);
            link->watch = 0;
        }
        break;
    default:
        break;
    }
}

void mlx5_link_init(Mlx5Device *dev)
{
    Mlx5Link *link;

    if (!qemu_chr_fe_backend_connected(&dev->chr)) {
        return;
    }
    link = g_new0(Mlx5Link, 1);
    link->dev = dev;
    link->in = g_byte_array_new();
    link->out = g_byte_array_new();
    link->ours = bitmap_new(MLX5_NR_LIDS);
    link->theirs = bitmap_new(MLX5_NR_LIDS);
    link->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, link_timer, link);
    dev->link = link;
    qemu_chr_fe_set_handlers(&dev->chr, link_can_read, link_read, link_event,
                             NULL, link, NULL, true);
}

void mlx5_link_exit(Mlx5Device *dev)
{
    Mlx5Link *link = dev->link;

    if (!link) {
        return;
    }
    qemu_chr_fe_disconnect(&dev->chr);
    qemu_chr_fe_set_handlers(&dev->chr, NULL, NULL, NULL, NULL, NULL, NULL,
                             true);
    dev->link = NULL;
    if (link->watch) {
        g_source_remove(link->watch);
    }
    timer_free(link->timer);
    g_byte_array_unref(link->in);
    g_byte_array_unref(link->out);
    g_free(link->ours);
    g_free(link->theirs);
    g_free(link);
}
