/* Fills of one node, and mending, compiled: the twin of search.py and mend.py, rule by rule, where each is explained. native.py hands everything in
 * and reads what comes out.
 *
 * Nothing is allocated here. Whoever calls owns all memory; what does not go into `out` is an error.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_KINDS 64   /* of resources */
#define MOST_POOLS 8    /* of these, kinds of devices */
#define MOST_DEVICES 64 /* of one kind on one node */
#define PROMISING 0.9
#define MOST_EXCHANGES 8
#define CANDIDATES 2
#define BETTER (1 + 1e-9)
#define LEAST_TAKEN 2
#define MOST_TAKEN 6
#define TRIES 3
#define NEAR_BY 32
#define MOST_MADE 16

enum { OUT_IS_FULL = -1 };

struct shapes { /* what they need: those of shape s are begin[s] to begin[s + 1]; the parts of need n are part[n] to part[n + 1], none if it is one amount */
    int32_t count;
    const int32_t *begin, *kind;
    const int64_t *amount;
    const int32_t *part;
    const int64_t *part_amount, *part_count;
    int64_t unit, many;
};

struct type { /* an empty node; `pool` is each kind's place among the devices or -1, the devices of pool p are free[begin[p]] to free[begin[p + 1]], least first */
    int32_t kinds, pools, shapes, orders;
    const int64_t *amount;
    const int32_t *pool, *begin;
    const int64_t *free, *number;
    const int32_t *shape;
    const double *weight; /* by order, then by shape */
};

struct ask {
    const double *worth, *prices;
    const int64_t *counts;
    double more_than, floor;
    int32_t effort;
};

struct out { /* content f is shape[begin[f]] to shape[begin[f + 1]], by shape */
    int32_t most_fills, most_pieces, fills;
    double best;
    int64_t work;
    double *value;
    int32_t *begin, *shape;
    int64_t *count;
};

struct devices {
    int32_t count;
    int64_t free[MOST_DEVICES], number[MOST_DEVICES];
};

struct room {
    int64_t amount[MOST_KINDS];
    struct devices pool[MOST_POOLS];
};

struct content { /* pieces of a shape, by shape; and what they are worth */
    int32_t count;
    int32_t *shape;
    int64_t *pieces;
    double value;
};

struct search {
    const struct shapes *shapes;
    const struct type *type;
    const struct ask *ask;
    struct out *out;
    int64_t *there;    /* pieces by shape, of the fill that is being made; all 0 between fills */
    int32_t *touched;  /* the shapes of which there are any */
    int32_t touched_count;
};

/* ---- what a room holds: sim.py and devices.py */

static void copy_devices(struct devices *to, const struct devices *from)
{
    to->count = from->count;
    memcpy(to->free, from->free, (size_t)from->count * sizeof *to->free);
    memcpy(to->number, from->number, (size_t)from->count * sizeof *to->number);
}

static void copy_room(const struct type *type, struct room *to, const struct room *from)
{
    memcpy(to->amount, from->amount, (size_t)type->kinds * sizeof *to->amount);
    for (int pool = 0; pool < type->pools; pool++) copy_devices(&to->pool[pool], &from->pool[pool]);
}

static void empty_room(const struct type *type, struct room *room)
{
    memcpy(room->amount, type->amount, (size_t)type->kinds * sizeof *room->amount);
    for (int pool = 0; pool < type->pools; pool++) {
        int32_t from = type->begin[pool], count = type->begin[pool + 1] - from;
        room->pool[pool].count = count;
        memcpy(room->pool[pool].free, type->free + from, (size_t)count * sizeof(int64_t));
        memcpy(room->pool[pool].number, type->number + from, (size_t)count * sizeof(int64_t));
    }
}

static int64_t times_of(const struct devices *held, int64_t amount, int64_t unit)
{
    if (amount < unit) {
        int64_t found = 0;
        for (int at = 0; at < held->count; at++) found += held->free[at] / amount * held->number[at];
        return found;
    }
    if (!held->count || amount % unit || held->free[held->count - 1] < unit) return 0;
    return held->number[held->count - 1] * unit / amount;
}

static void put(struct devices *held, int64_t amount, int64_t number)
{
    if (!amount || !number) return;
    int at = held->count;
    while (at > 0 && held->free[at - 1] > amount) at--;
    if (at > 0 && held->free[at - 1] == amount) {
        held->number[at - 1] += number;
        return;
    }
    for (int later = held->count++; later > at; later--) {
        held->free[later] = held->free[later - 1];
        held->number[later] = held->number[later - 1];
    }
    held->free[at] = amount;
    held->number[at] = number;
}

static void take(struct devices *held, int64_t amount, int64_t count, int64_t unit)
{
    if (amount >= unit) {
        int last = held->count - 1;
        held->number[last] -= amount / unit * count;
        if (!held->number[last]) held->count--;
        return;
    }
    struct devices before;
    copy_devices(&before, held);
    held->count = 0;
    for (int at = 0; at < before.count; at++) {
        int64_t free = before.free[at], number = before.number[at], each = free / amount;
        int64_t used = 0, more = 0;
        if (each) used = number < count / each ? number : count / each;
        count -= used * each;
        if (used < number && each) more = count < each - 1 ? count : each - 1;
        count -= more;
        put(held, free - each * amount, used);
        put(held, free - more * amount, more > 0);
        put(held, free, number - used - (more > 0));
    }
}

static int take_parts(const struct shapes *shapes, int32_t need, struct devices *held)
{
    for (int32_t part = shapes->part[need]; part < shapes->part[need + 1]; part++) {
        if (times_of(held, shapes->part_amount[part], shapes->unit) < shapes->part_count[part]) return 0;
        take(held, shapes->part_amount[part], shapes->part_count[part], shapes->unit);
    }
    return 1;
}

static int64_t times(const struct search *search, const struct room *room, int32_t shape)
{
    const struct shapes *shapes = search->shapes;
    int64_t most = shapes->many;
    for (int32_t need = shapes->begin[shape]; need < shapes->begin[shape + 1]; need++) {
        int32_t kind = shapes->kind[need], pool = search->type->pool[kind];
        int64_t held;
        if (pool < 0) {
            held = room->amount[kind] < 0 ? 0 : room->amount[kind] / shapes->amount[need];
        } else if (shapes->part[need] < shapes->part[need + 1]) {
            struct devices trial;
            copy_devices(&trial, &room->pool[pool]);
            held = take_parts(shapes, need, &trial);
        } else {
            held = times_of(&room->pool[pool], shapes->amount[need], shapes->unit);
        }
        if (held < most) {
            if (held <= 0) return 0;
            most = held;
        }
    }
    return most;
}

static void subtract(const struct search *search, struct room *room, int32_t shape, int64_t count)
{
    const struct shapes *shapes = search->shapes;
    for (int32_t need = shapes->begin[shape]; need < shapes->begin[shape + 1]; need++) {
        int32_t kind = shapes->kind[need], pool = search->type->pool[kind];
        if (pool < 0) {
            room->amount[kind] -= shapes->amount[need] * count;
        } else if (shapes->part[need] < shapes->part[need + 1]) {
            struct devices trial;
            copy_devices(&trial, &room->pool[pool]);
            if (take_parts(shapes, need, &trial)) copy_devices(&room->pool[pool], &trial);
        } else {
            take(&room->pool[pool], shapes->amount[need], count, shapes->unit);
        }
    }
}

/* ---- fills */

static void add(struct search *search, int32_t shape, int64_t count)
{
    if (!search->there[shape]) search->touched[search->touched_count++] = shape;
    search->there[shape] += count;
}

static void fill_one(struct search *search, struct room *room, int32_t shape)
{
    int64_t most = times(search, room, shape), left = search->ask->counts[shape] - search->there[shape];
    if (left < most) most = left;
    if (most <= 0) return;
    add(search, shape, most);
    subtract(search, room, shape, most);
}

static void fill(struct search *search, struct room *room, const int32_t *order, int32_t count)
{
    search->out->work += count;
    for (int32_t at = 0; at < count; at++) fill_one(search, room, order[at]);
}

/* Write the fill that was made behind the last one told, and begin with none; tell it if it pays. It stays readable either way. */
static int finish(struct search *search, struct content *made, int is_told)
{
    struct out *out = search->out;
    int32_t from = out->begin[out->fills], count = search->touched_count;
    if (out->fills + 1 >= out->most_fills || from + count > out->most_pieces) return OUT_IS_FULL;
    int32_t *touched = search->touched;
    for (int32_t at = 1; at < count; at++) {
        int32_t shape = touched[at], to = at;
        for (; to > 0 && touched[to - 1] > shape; to--) touched[to] = touched[to - 1];
        touched[to] = shape;
    }
    double value = 0, price = 0;
    for (int32_t at = 0; at < count; at++) {
        int32_t shape = touched[at];
        int64_t pieces = search->there[shape];
        value += search->ask->worth[shape] * (double)pieces;
        price += search->ask->prices[shape] * (double)pieces;
        out->shape[from + at] = shape;
        out->count[from + at] = pieces;
        search->there[shape] = 0;
    }
    search->touched_count = 0;
    *made = (struct content){count, out->shape + from, out->count + from, value};
    if (is_told || (count && price > search->ask->more_than)) {
        out->value[out->fills] = value;
        out->begin[++out->fills] = from + count;
    }
    return 0;
}

/* The best is kept in memory of its own: what is not told is written over. */
static void keep(struct content *best, const struct content *made)
{
    best->count = made->count;
    best->value = made->value;
    memcpy(best->shape, made->shape, (size_t)made->count * sizeof *made->shape);
    memcpy(best->pieces, made->pieces, (size_t)made->count * sizeof *made->pieces);
}

struct keyed {
    double key;
    int32_t place;
};

static int by_key(const void *one, const void *other)
{
    const struct keyed *a = one, *b = other;
    if (a->key != b->key) return a->key > b->key ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* Order shapes, given by their places among the type's, by worth for their weight, the highest first, equal ones as they are. */
static void order_by(const struct search *search, const double *weight, const int32_t *at, int32_t count, int32_t *order, struct keyed *keys)
{
    const struct type *type = search->type;
    for (int32_t next = 0; next < count; next++) {
        double worth = search->ask->worth[type->shape[at[next]]];
        keys[next] = (struct keyed){weight ? worth / weight[at[next]] : worth, at[next]};
    }
    qsort(keys, (size_t)count, sizeof *keys, by_key);
    for (int32_t next = 0; next < count; next++) order[next] = type->shape[keys[next].place];
}

/* ---- exchanges */

struct exchange {
    const int32_t *order;
    int32_t count;
    int32_t *fitting; /* a place for each shape */
    struct content best, from;
    int is_better;
};

/* Make the fills that follow when what lies there is `from` without the pieces at places `first` and `second` (-1: none). */
static int refill(struct search *search, struct exchange *exchange, int32_t first, int32_t second)
{
    const struct content *from = &exchange->from;
    struct room left, room;
    empty_room(search->type, &left);
    for (int32_t at = 0; at < from->count; at++) {
        int64_t pieces = from->pieces[at] - (at == first) - (at == second);
        if (pieces) subtract(search, &left, from->shape[at], pieces);
    }
    for (int32_t at = 0; at < from->count; at++) search->there[from->shape[at]] = from->pieces[at] - (at == first) - (at == second);
    int32_t fitting = 0, candidates[2 * CANDIDATES], most_worth = 0;
    double worth[CANDIDATES];
    search->out->work += exchange->count;
    for (int32_t at = 0; at < exchange->count; at++) {
        int32_t shape = exchange->order[at];
        int64_t most = times(search, &left, shape), rest = search->ask->counts[shape] - search->there[shape];
        if (rest < most) most = rest;
        if (most <= 0) continue;
        exchange->fitting[fitting++] = shape;
        double its = search->ask->worth[shape] * (double)most;
        int32_t to = most_worth;
        while (to > 0 && (worth[to - 1] < its || (worth[to - 1] == its && candidates[to - 1] > shape))) to--;
        if (to == CANDIDATES) continue;
        if (most_worth < CANDIDATES) most_worth++;
        for (int32_t later = most_worth - 1; later > to; later--) {
            candidates[later] = candidates[later - 1];
            worth[later] = worth[later - 1];
        }
        candidates[to] = shape;
        worth[to] = its;
    }
    int32_t count = most_worth;
    for (int32_t at = 0; at < fitting && at < CANDIDATES; at++) {
        int is_known = 0;
        for (int32_t known = 0; known < most_worth; known++) is_known |= candidates[known] == exchange->fitting[at];
        if (!is_known) candidates[count++] = exchange->fitting[at];
    }
    for (int32_t at = 0; at < from->count; at++) search->there[from->shape[at]] = 0;
    for (int32_t candidate = 0; candidate < count; candidate++) {
        struct content made;
        copy_room(search->type, &room, &left);
        for (int32_t at = 0; at < from->count; at++) {
            int64_t pieces = from->pieces[at] - (at == first) - (at == second);
            if (pieces) add(search, from->shape[at], pieces);
        }
        search->out->work += 1;
        fill_one(search, &room, candidates[candidate]);
        fill(search, &room, exchange->fitting, fitting);
        if (finish(search, &made, 0) == OUT_IS_FULL) return OUT_IS_FULL;
        if (made.value > exchange->best.value * BETTER) {
            keep(&exchange->best, &made);
            exchange->is_better = 1;
        }
    }
    return 0;
}

static int improve(struct search *search, struct exchange *exchange)
{
    for (int round = 0; round < MOST_EXCHANGES; round++) {
        exchange->is_better = 0;
        keep(&exchange->from, &exchange->best);
        for (int32_t first = 0; first < exchange->from.count; first++)
            if (refill(search, exchange, first, -1) == OUT_IS_FULL) return OUT_IS_FULL;
        if (exchange->is_better) continue;
        for (int32_t first = 0; first < exchange->from.count; first++) {
            for (int32_t second = first; second < exchange->from.count; second++) {
                if (second == first && exchange->from.pieces[first] < 2) continue;
                if (refill(search, exchange, first, second) == OUT_IS_FULL) return OUT_IS_FULL;
            }
        }
        if (!exchange->is_better) return 0;
    }
    return 0;
}

/* ---- mending */

struct mix { /* `pieces` has a row of all shapes for each node, `made` one for each of MOST_MADE and one to try in; `orders` of a type begin at order[type] */
    int32_t types, nodes, most_nodes;
    const struct type *const *type;
    const int64_t *price, *spend;
    const int32_t *is_new;
    int64_t *spare; /* how many nodes of a type there may be more; `total` is how many of those that are new, `money` what may be spent, -1: anything */
    int64_t total, money;
    const double *worth;
    int32_t *orders;
    const int32_t *order;
    int32_t *kind;
    int64_t *pieces, *left, *made, *log; /* of `log` each entry is a node, a shape and how many of it were put there */
    int64_t work, most_work;
    uint32_t chance;
};

struct turn { /* nodes taken apart, what was put on others (`logged` entries), and nodes made for the rest */
    int32_t taken[MOST_TAKEN], takes, made[MOST_MADE], makes;
    int64_t logged, before, after, out_before, out, total, spent;
};

static int32_t drawn(struct mix *mix, int64_t of)
{
    mix->chance = mix->chance * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)mix->chance * (uint64_t)of >> 32);
}

static double per_price(const struct mix *mix, double worth, int32_t kind)
{
    return worth / (double)(mix->price[kind] ? mix->price[kind] : 1);
}

/* Leave in `room` what such a content leaves of an empty node; return 0 if it does not go in, by shape. */
static int holds(const struct search *search, const int64_t *pieces, struct room *room)
{
    empty_room(search->type, room);
    for (int32_t shape = 0; shape < search->shapes->count; shape++) {
        if (!pieces[shape]) continue;
        if (times(search, room, shape) < pieces[shape]) return 0;
        subtract(search, room, shape, pieces[shape]);
    }
    return 1;
}

/* Fill what is left into the room in this order, as `put`; return what that is worth. */
static double fill_left(const struct search *search, struct mix *mix, struct room *room, const int32_t *order, int64_t *put)
{
    double worth = 0;
    mix->work++;
    for (int32_t at = 0; at < search->type->shapes; at++) {
        int32_t shape = order[at];
        if (!mix->left[shape]) continue;
        mix->work++;
        int64_t most = times(search, room, shape);
        if (mix->left[shape] < most) most = mix->left[shape];
        if (most <= 0) continue;
        subtract(search, room, shape, most);
        put[shape] = most;
        worth += mix->worth[shape] * (double)most;
    }
    return worth;
}

static int is_taken(const struct turn *turn, int32_t node)
{
    for (int32_t at = 0; at < turn->takes; at++)
        if (turn->taken[at] == node) return 1;
    return 0;
}

static void take_apart(const struct shapes *shapes, struct mix *mix, struct turn *turn, int32_t count)
{
    for (int32_t next = 0; next < count; next++) {
        int32_t poorest = -1;
        double least = 0;
        for (int32_t tried = 0; tried < TRIES; tried++) {
            int32_t node = drawn(mix, mix->nodes);
            if (is_taken(turn, node)) continue;
            const int64_t *pieces = mix->pieces + (int64_t)node * shapes->count;
            double worth = 0;
            for (int32_t shape = 0; shape < shapes->count; shape++)
                if (pieces[shape]) worth += mix->worth[shape] * (double)pieces[shape];
            worth = per_price(mix, worth, mix->kind[node]);
            if (poorest >= 0 && worth >= least) continue;
            poorest = node;
            least = worth;
        }
        if (poorest >= 0) turn->taken[turn->takes++] = poorest;
    }
    for (int32_t at = 0; at < turn->takes; at++) {
        int32_t kind = mix->kind[turn->taken[at]];
        const int64_t *pieces = mix->pieces + (int64_t)turn->taken[at] * shapes->count;
        mix->spare[kind]++;
        turn->total += mix->is_new[kind];
        turn->before += mix->price[kind];
        turn->spent -= mix->spend[kind];
        for (int32_t shape = 0; shape < shapes->count; shape++) mix->left[shape] += pieces[shape];
    }
}

/* Put what is left on nodes that are not taken apart. */
static void put_near(const struct shapes *shapes, struct mix *mix, struct turn *turn)
{
    int64_t *put = mix->made + (int64_t)MOST_MADE * shapes->count;
    int32_t near = mix->nodes < NEAR_BY ? mix->nodes : NEAR_BY, node = mix->nodes ? drawn(mix, mix->nodes) : 0;
    for (; near > 0; near--, node = node + 1 == mix->nodes ? 0 : node + 1) {
        if (is_taken(turn, node)) continue;
        struct search search = {shapes, mix->type[mix->kind[node]], 0, 0, 0, 0, 0};
        int64_t *pieces = mix->pieces + (int64_t)node * shapes->count;
        struct room room;
        if (!holds(&search, pieces, &room)) continue;
        memset(put, 0, (size_t)shapes->count * sizeof *put);
        fill_left(&search, mix, &room, mix->orders + mix->order[mix->kind[node]] + search.type->orders * search.type->shapes, put);
        for (int32_t shape = 0; shape < shapes->count; shape++) pieces[shape] += put[shape];
        int is_held = !search.type->pools || holds(&search, pieces, &room);
        for (int32_t shape = 0; shape < shapes->count; shape++) {
            if (!put[shape]) continue;
            if (!is_held) {
                pieces[shape] -= put[shape];
                continue;
            }
            int64_t *entry = mix->log + 3 * turn->logged++;
            entry[0] = node;
            entry[1] = shape;
            entry[2] = put[shape];
            mix->left[shape] -= put[shape];
        }
    }
}

/* Find the node to make that is worth most for its price; return its type or -1. */
static int32_t best_made(const struct shapes *shapes, struct mix *mix, const struct turn *turn, int64_t *best)
{
    int64_t *put = mix->made + (int64_t)MOST_MADE * shapes->count;
    int32_t found = -1;
    double most = 0;
    for (int32_t kind = 0; kind < mix->types; kind++) {
        if (mix->spare[kind] <= 0 || (mix->is_new[kind] && turn->total <= 0)) continue;
        if (mix->money >= 0 && turn->spent + mix->spend[kind] > mix->money) continue;
        if (!turn->out_before && turn->after + mix->price[kind] > turn->before) continue;
        struct search search = {shapes, mix->type[kind], 0, 0, 0, 0, 0};
        for (int32_t way = 0; way <= search.type->orders; way++) {
            struct room room;
            empty_room(search.type, &room);
            memset(put, 0, (size_t)shapes->count * sizeof *put);
            double worth = per_price(mix, fill_left(&search, mix, &room, mix->orders + mix->order[kind] + way * search.type->shapes, put), kind);
            if (worth <= most * BETTER || (search.type->pools && !holds(&search, put, &room))) continue;
            most = worth;
            found = kind;
            memcpy(best, put, (size_t)shapes->count * sizeof *put);
        }
    }
    return found;
}

static int64_t all_left(const struct shapes *shapes, const struct mix *mix)
{
    int64_t all = 0;
    for (int32_t shape = 0; shape < shapes->count; shape++) all += mix->left[shape];
    return all;
}

static void make_nodes(const struct shapes *shapes, struct mix *mix, struct turn *turn)
{
    for (turn->out = all_left(shapes, mix); turn->out && turn->makes < MOST_MADE; turn->makes++) {
        int64_t *best = mix->made + (int64_t)turn->makes * shapes->count;
        int32_t kind = best_made(shapes, mix, turn, best);
        if (kind < 0) return;
        turn->made[turn->makes] = kind;
        mix->spare[kind]--;
        turn->total -= mix->is_new[kind];
        turn->after += mix->price[kind];
        turn->spent += mix->spend[kind];
        for (int32_t shape = 0; shape < shapes->count; shape++) {
            mix->left[shape] -= best[shape];
            turn->out -= best[shape];
        }
    }
}

static void set_node(const struct shapes *shapes, struct mix *mix, int32_t node, int32_t kind, const int64_t *pieces)
{
    mix->kind[node] = kind;
    memmove(mix->pieces + (int64_t)node * shapes->count, pieces, (size_t)shapes->count * sizeof *pieces);
}

/* What was made takes the places of what was taken apart; the last nodes move to places that are left over, the highest first. */
static void accept(const struct shapes *shapes, struct mix *mix, struct turn *turn)
{
    mix->total = turn->total;
    if (mix->money >= 0) mix->money -= turn->spent;
    for (int32_t at = 0; at < turn->makes; at++)
        set_node(shapes, mix, at < turn->takes ? turn->taken[at] : mix->nodes++, turn->made[at], mix->made + (int64_t)at * shapes->count);
    for (int32_t at = turn->makes; at < turn->takes; at++) {
        int32_t high = at;
        for (int32_t other = at + 1; other < turn->takes; other++)
            if (turn->taken[other] > turn->taken[high]) high = other;
        int32_t node = turn->taken[high], last = --mix->nodes;
        turn->taken[high] = turn->taken[at];
        set_node(shapes, mix, node, mix->kind[last], mix->pieces + (int64_t)last * shapes->count);
    }
}

static void undo(const struct shapes *shapes, struct mix *mix, struct turn *turn)
{
    for (int32_t at = 0; at < turn->makes; at++) {
        mix->spare[turn->made[at]]++;
        for (int32_t shape = 0; shape < shapes->count; shape++) mix->left[shape] += mix->made[(int64_t)at * shapes->count + shape];
    }
    for (int64_t at = 0; at < turn->logged; at++) {
        const int64_t *entry = mix->log + 3 * at;
        mix->pieces[entry[0] * shapes->count + entry[1]] -= entry[2];
        mix->left[entry[1]] += entry[2];
    }
    for (int32_t at = 0; at < turn->takes; at++) {
        mix->spare[mix->kind[turn->taken[at]]]--;
        for (int32_t shape = 0; shape < shapes->count; shape++) mix->left[shape] -= mix->pieces[(int64_t)turn->taken[at] * shapes->count + shape];
    }
}

/* Take so many nodes apart and put what lay there elsewhere; keep that if it is no worse, and return whether it places more. */
static int mend(const struct shapes *shapes, struct mix *mix, int32_t take)
{
    struct turn turn = {{0}, 0, {0}, 0, 0, 0, 0, all_left(shapes, mix), 0, mix->total, 0};
    mix->work++;
    take_apart(shapes, mix, &turn, take);
    put_near(shapes, mix, &turn);
    make_nodes(shapes, mix, &turn);
    int is_good = turn.out < turn.out_before;
    if (turn.out == turn.out_before) is_good = turn.after < turn.before || (turn.after == turn.before && turn.makes <= turn.takes);
    if (mix->nodes - turn.takes + turn.makes > mix->most_nodes) is_good = 0;
    (is_good ? accept : undo)(shapes, mix, &turn);
    return is_good && turn.out < turn.out_before;
}

/* ---- what native.py calls; `places` has 7, `pieces` 3 and `keys` 1 for each shape; they return 0 or OUT_IS_FULL */

static struct search begin(const struct shapes *shapes, const struct type *type, const struct ask *ask, struct out *out, int32_t *places, int64_t *pieces)
{
    out->fills = 0;
    out->begin[0] = 0;
    out->best = 0;
    out->work = 0;
    memset(pieces, 0, (size_t)shapes->count * sizeof *pieces);
    return (struct search){shapes, type, ask, out, pieces, places, 0};
}

int rayscaler_price(
    const struct shapes *shapes, const struct type *type, const struct ask *ask, struct out *out, int32_t *places, int64_t *pieces, struct keyed *keys)
{
    struct search search = begin(shapes, type, ask, out, places, pieces);
    int32_t all = shapes->count, count = 0;
    int32_t *at = places + all, *order = places + 2 * all, *dense = places + 3 * all;
    struct exchange exchange = {dense, 0, places + 4 * all, {0, places + 5 * all, pieces + all, 0}, {0, places + 6 * all, pieces + 2 * all, 0}, 0};
    struct content made;
    struct room room;
    for (int32_t index = 0; index < type->shapes; index++) {
        int32_t shape = type->shape[index];
        if (ask->worth[shape] > 0 && ask->counts[shape] > 0) at[count++] = index;
    }
    for (int32_t way = 0; way <= type->orders; way++) {
        order_by(&search, way < type->orders ? type->weight + (int64_t)way * type->shapes : 0, at, count, order, keys);
        empty_room(type, &room);
        fill(&search, &room, order, count);
        if (finish(&search, &made, 0) == OUT_IS_FULL) return OUT_IS_FULL;
        if (made.value > exchange.best.value) keep(&exchange.best, &made);
    }
    out->best = exchange.best.value;
    if (ask->effort == 0 || out->best == 0 || out->best < PROMISING * ask->floor) return 0;
    order_by(&search, type->weight, at, count, dense, keys);
    exchange.count = count;
    int32_t leads = ask->effort > 1 ? count : 0;
    for (int32_t lead = 0; lead < leads; lead++) {
        empty_room(type, &room);
        search.out->work += 1;
        fill_one(&search, &room, dense[lead]);
        fill(&search, &room, dense, count);
        if (finish(&search, &made, 0) == OUT_IS_FULL) return OUT_IS_FULL;
        if (made.value > exchange.best.value) keep(&exchange.best, &made);
    }
    return improve(&search, &exchange);
}

int rayscaler_led(
    const struct shapes *shapes, const struct type *type, const struct ask *ask, struct out *out, int32_t *places, int64_t *pieces, struct keyed *keys)
{
    struct search search = begin(shapes, type, ask, out, places, pieces);
    int32_t all = shapes->count, count = 0;
    int32_t *at = places + all, *order = places + 2 * all;
    struct content made;
    struct room room;
    for (int32_t index = 0; index < type->shapes; index++)
        if (ask->counts[type->shape[index]]) at[count++] = index;
    order_by(&search, type->weight, at, count, order, keys);
    for (int32_t index = -1; index < type->shapes; index++) {
        empty_room(type, &room);
        if (index >= 0) {
            out->work += 1;
            fill_one(&search, &room, type->shape[index]);
        }
        fill(&search, &room, order, count);
        if (finish(&search, &made, index >= 0) == OUT_IS_FULL) return OUT_IS_FULL;
        if (index < 0) out->best = made.value;
        if (index < 0) out->fills = 0; /* the plain one is only measured */
    }
    return 0;
}

/* `keys` has one for each shape, `places` two. */
void rayscaler_mend(const struct shapes *shapes, struct mix *mix, int32_t *places, struct keyed *keys)
{
    struct ask ask = {mix->worth, mix->worth, 0, 0, 0, 0};
    for (int32_t kind = 0; kind < mix->types; kind++) {
        const struct type *type = mix->type[kind];
        struct search search = {shapes, type, &ask, 0, 0, 0, 0};
        for (int32_t index = 0; index < type->shapes; index++) places[index] = index;
        for (int32_t way = 0; way <= type->orders; way++) {
            const double *weight = way < type->orders ? type->weight + (int64_t)way * type->shapes : 0;
            order_by(&search, weight, places, type->shapes, mix->orders + mix->order[kind] + way * type->shapes, keys);
        }
    }
    while (mend(shapes, mix, 0) && mix->work < mix->most_work) continue;
    while (mix->nodes && mix->work < mix->most_work) mend(shapes, mix, LEAST_TAKEN + drawn(mix, MOST_TAKEN - LEAST_TAKEN + 1));
}
