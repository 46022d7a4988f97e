/*
 * The life of one commitment, and one lab's gate that obeys it, with two clocks: the log's time and the gate's own.
 *
 * Three participants pledge, withdraw, speak for lifting and are convicted in every order, at every time. A gate of
 * any one of them reads the log whenever it likes, or never. What must hold is asserted after every step, by formulas
 * that share no computation with the engine above them. specs/models.md says what is left out, and which rule each
 * assertion stands for.
 *
 *   -DTRIGGERS     the commitment has a trigger, that reports turn on and off
 *   -DLIVENESS     the property in time, at the end
 *   -DBROKEN_x     one rule is broken: spin has to find it (tests/TRACK_RECORD.md)
 */

#define NONE 99

/* The terms. Delay, or notice with a trigger, and wind-down are exactly lease and tolerance: commitments-13 is tight. */
#if defined(TRIGGERS) || defined(LIVENESS)
#define SMALL         /* fewer terms and a shorter time to pledge, where there is more to search */
#define PLEDGES_BY 1
#define MINIMUM 1     /* term */
#define LENGTH 4
#define LAST_TIME 7
#else
#define PLEDGES_BY 2
#define MINIMUM 2
#define LENGTH 3
#define LAST_TIME 8
#endif
#define DELAY 2
#define NOTICE 2       /* of constraints, after what fixed them */
#define WIND_DOWN 1
#define RULE 2         /* parties, to enter into force */
#define LIFTING 2      /* parties, to lift */
#define CUT_OFF 1
#define LEAVE_NOTICE 2 /* of who withdraws */
#define TOLERANCE 1
#ifdef BROKEN_LEASE
#define LEASE 3
#else
#define LEASE 2
#endif

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))
#define BIT(who) (1 << (who))

mtype:phases = { UNPROPOSED, OPEN, PENDING, ARMED, IN_FORCE, ENDED, FAILED };
mtype:events = {
    RULE_MET, DEADLINE, LAPSE_DATE, COLLAPSE, DELAY_OVER, TRIGGER_ON, TRIGGER_OFF, LIFTED, EXPIRED, RELEASED
};

/* What is chosen once, before anything happens. */
bit anyone;     /* the term requires anyone to be bound, and not the entry rule */
byte last_date; /* by which it must be in force, and at which it expires; or NONE, and its length counts */
byte lab;       /* whose gate it is */

/* The log: its time, and the standing of the commitment. A time of 0 is none: nothing is due then. */
byte now;
mtype:phases phase = UNPROPOSED;
byte pledged, bound, votes; /* sets of participants */
byte waits_1, waits_2;      /* the conditions of the pledges of participants 1 and 2; 0 is none */
byte bound_from[3], leaving[3];
byte met, in_force, force;

/* The gate: its own clock, until when it knows the log, and from when it is constrained by what it knows. */
short own;
byte known, constrained;
#ifdef BROKEN_LOOSENING
byte until;
#endif

/* What was said and when, for the assertions only. */
byte rule_since = NONE; /* since when the greatest set bound meets the entry rule; as it was, once in force */
byte said[3];           /* when notice was given, 0 if none was needed */
byte spoke;             /* who has spoken for lifting and is bound */

/* Scratch, 0 between steps. */
byte set, greatest, who, from, span;

/* How often each of these happened, counted beside the state: a model in which nothing happens proves nothing. */
#define ALL_SEEN(X) \
    X(rule_met) X(deadline) X(open_lapsed) X(delay_over) X(pending_collapsed) X(pending_lapsed) X(trigger_on) \
    X(armed_lifted) X(armed_expired) X(armed_collapsed) X(armed_released) X(trigger_off) X(lifted) X(expired) \
    X(collapsed) X(released) X(mutual_pledges) X(waiting_pledge) X(late_joiner) X(late_pledge_refused) \
    X(left_at_once) X(left_after_notice) X(bites) X(bites_unknown) X(bites_slow_clock) X(held_by_lease) X(let_go)
#define DECLARE(name) static unsigned long seen_##name;
#define PRINT(name) printf("seen " #name " %lu\n", seen_##name);
#define SEEN(name) c_code { seen_##name++; }
c_decl {
    ALL_SEEN(DECLARE)
    static void print_seen(void) { ALL_SEEN(PRINT) }
}

/* --- the table: phase and event give the next phase (protocol/commitments/transitions.py) --- */
inline step(event) {
    if
    :: phase == OPEN     && event == RULE_MET    -> phase = PENDING;  SEEN(rule_met)
    :: phase == OPEN     && event == DEADLINE    -> phase = FAILED;   SEEN(deadline)
    :: phase == OPEN     && event == LAPSE_DATE  -> phase = FAILED;   SEEN(open_lapsed)
    :: phase == PENDING  && event == DELAY_OVER  -> phase = ARMED;    SEEN(delay_over)
    :: phase == PENDING  && event == COLLAPSE    -> phase = FAILED;   SEEN(pending_collapsed)
    :: phase == PENDING  && event == LAPSE_DATE  -> phase = FAILED;   SEEN(pending_lapsed)
    :: phase == ARMED    && event == TRIGGER_ON  -> phase = IN_FORCE; SEEN(trigger_on)
    :: phase == ARMED    && event == LIFTED      -> phase = ENDED;    SEEN(armed_lifted)
    :: phase == ARMED    && event == EXPIRED     -> phase = ENDED;    SEEN(armed_expired)
    :: phase == ARMED    && event == COLLAPSE    -> phase = ENDED;    SEEN(armed_collapsed)
    :: phase == ARMED    && event == RELEASED    -> phase = ENDED;    SEEN(armed_released)
    :: phase == IN_FORCE && event == TRIGGER_OFF -> phase = ARMED;    SEEN(trigger_off)
    :: phase == IN_FORCE && event == LIFTED      -> phase = ENDED;    SEEN(lifted)
    :: phase == IN_FORCE && event == EXPIRED     -> phase = ENDED;    SEEN(expired)
    :: phase == IN_FORCE && event == COLLAPSE    -> phase = ENDED;    SEEN(collapsed)
    :: phase == IN_FORCE && event == RELEASED    -> phase = ENDED;    SEEN(released)
    :: else -> assert(false) /* absent from the table */
    fi
}
/* --- end of the table --- */

#define OVER (phase == ENDED || phase == FAILED)
#define LIVE (phase == PENDING || phase == ARMED || phase == IN_FORCE)
#define ENTERED (phase == ARMED || phase == IN_FORCE)

/* ---------------------------------------------------------------------------------------------------------------- */
/* Who is bound. Participant 0 pledges without condition; 1 may wait for 2; 2 may wait for 0, or for all three.       */

#define HOLDS_1(s) (waits_1 == 0 || ((s) & 4))
#define HOLDS_2(s) (waits_2 == 0 || (waits_2 == 1 && ((s) & 1)) || (waits_2 == 2 && (s) == 7))

/* The engine's way: all pledgers, and strike whose condition fails until none does. Leaves the set bound in `set`. */
inline take_fixed_point() {
#ifdef BROKEN_LEAST
    set = pledged & 1;
    do
    :: (pledged & 2) && !(set & 2) && HOLDS_1(set) -> set = set | 2
    :: else ->
        if
        :: (pledged & 4) && !(set & 4) && HOLDS_2(set) -> set = set | 4
        :: else -> break
        fi
    od
#else
    set = pledged;
#ifndef BROKEN_RULE
    do
    :: (set & 2) && !HOLDS_1(set) -> set = set & 5
    :: else ->
        if
        :: (set & 4) && !HOLDS_2(set) -> set = set & 3
        :: else -> break
        fi
    od
#endif
#endif
}

/* The definition: the union of all sets of pledgers in which each condition holds. Leaves it in `greatest`. */
inline take_greatest() {
    greatest = 0;
    set = 1;
    do
    :: set > 7 -> break
    :: else ->
        if
        :: (set & pledged) == set && (!(set & 2) || HOLDS_1(set)) && (!(set & 4) || HOLDS_2(set)) ->
            greatest = greatest | set
        :: else
        fi;
        set++
    od
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* The engine (lifecycle.py, registry.py).                                                                           */

inline forget(dropped) {
    pledged = pledged & ~BIT(dropped);
    if
    :: dropped == 1 -> waits_1 = 0
    :: dropped == 2 -> waits_2 = 0
    :: else
    fi
}

inline finish(ending) {
    step(ending);
    pledged = 0; waits_1 = 0; waits_2 = 0; votes = 0; met = 0; in_force = 0;
    leaving[0] = 0; leaving[1] = 0; leaving[2] = 0;
#ifndef BROKEN_END
    force = 0; bound = 0; bound_from[0] = 0; bound_from[1] = 0; bound_from[2] = 0;
#endif
    skip
}

inline unbind(freed) {
    bound = bound & ~BIT(freed);
    bound_from[freed] = 0; leaving[freed] = 0; said[freed] = 0;
#ifndef BROKEN_STALE_VOTES
    votes = votes & ~BIT(freed);
#endif
    if
    :: now >= PLEDGES_BY -> forget(freed)
    :: else
    fi
}

inline activate(fixed) {
    step(TRIGGER_ON);
#ifdef BROKEN_WARNING
    force = now
#else
    force = MAX(now, (fixed) + NOTICE)
#endif
}

inline enter() {
    step(DELAY_OVER);
#ifndef TRIGGERS
    activate(met)
#endif
}

#ifdef BROKEN_VOTES
#define CARRIED (votes != 0)
#else
#define CARRIED (votes != 0 && (COUNT(votes) >= LIFTING || (votes & bound) == bound))
#endif

/* (d) A lift has the votes that it needs, of those who are bound and spoke after the minimum term. */
inline count_votes() {
    if
    :: ENTERED && CARRIED ->
        spoke = spoke & bound;
        assert(COUNT(spoke) >= LIFTING || (spoke == bound && bound != 0));
        assert(now >= rule_since + DELAY + MINIMUM);
        finish(LIFTED)
    :: else
    fi
}

inline bind(joiner) {
    bound = bound | BIT(joiner);
    bound_from[joiner] = from
}

#ifdef BROKEN_JOINING
#define JOINING now
#else
#define JOINING MAX(in_force, now + MAX(DELAY, NOTICE))
#endif

/* Pledges have changed: the fixed point is taken again. */
inline settle() {
    take_fixed_point();
    if
    :: phase == OPEN && COUNT(set) >= RULE ->
        step(RULE_MET);
        met = now;
        if
        :: set == 7 && waits_1 != 0 && waits_2 == 2 -> SEEN(mutual_pledges)
        :: else
        fi;
#ifdef BROKEN_DELAY
        in_force = now + DELAY - 1;
#else
        in_force = now + DELAY;
#endif
        from = MAX(in_force, met + NOTICE);
        who = 0;
        do
        :: who == 3 -> break
        :: else ->
            if
            :: set & BIT(who) -> bind(who)
            :: else
            fi;
            who++
        od
    :: LIVE ->
        from = JOINING;
        who = 0;
        do
        :: who == 3 -> break
        :: else ->
            if
            :: (set & BIT(who)) && !(bound & BIT(who)) -> bind(who); SEEN(late_joiner)
            :: !(set & BIT(who)) && (bound & BIT(who)) -> unbind(who)
            :: else
            fi;
            who++
        od;
        if
#ifndef BROKEN_COLLAPSE
        :: set == 0 || (COUNT(set) < RULE && (phase == PENDING || !anyone)) -> finish(COLLAPSE)
#endif
        :: else -> count_votes()
        fi
    :: else ->
        if
        :: phase == OPEN && COUNT(pledged) >= RULE -> SEEN(waiting_pledge)
        :: else
        fi
    fi
}

/* (b) Who left after entry, or after the cut-off, had given notice, and was not let go before the minimum term. */
inline leave(leaver) {
    assert(said[leaver] == 0 || (now >= said[leaver] + LEAVE_NOTICE && now >= rule_since + DELAY + MINIMUM));
    if
    :: bound & BIT(leaver) ->
        if
        :: said[leaver] != 0 -> SEEN(left_after_notice)
        :: else
        fi;
        unbind(leaver)
    :: else
    fi;
    forget(leaver);
    settle()
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* The assertions, after every step.                                                                                 */

/* From when a participant is constrained, as far as the log is known, planned or in fact; 0 if it is not. */
inline take_span(whose) {
    span = 0;
    if
    :: (bound & BIT(whose)) && force != 0 -> span = MAX(bound_from[whose], force)
#ifndef TRIGGERS
    :: (bound & BIT(whose)) && force == 0 && phase == PENDING ->
        span = MAX(bound_from[whose], MAX(in_force, met + NOTICE))
#endif
    :: else
    fi
}

/* The gate tightens by its own clock, a tolerance before the bite, or by the log's, whichever is earlier, and loosens
   only by the log. Past its lease it holds, whatever it knows. */
#define LEASE_OVER (own >= known + LEASE)
#ifdef BROKEN_GATE
#define OBEYS (constrained != 0 && own >= constrained + WIND_DOWN)
#else
#ifdef BROKEN_LOOSENING
#define OBEYS (constrained != 0 && own + TOLERANCE >= constrained + WIND_DOWN && own < until)
#else
#define OBEYS (constrained != 0 && (own + TOLERANCE >= constrained + WIND_DOWN || known >= constrained))
#endif
#endif
#ifdef BROKEN_LEASE_UNKNOWN
#define HOLDING (OBEYS || (LEASE_OVER && constrained != 0 && own >= constrained))
#else
#define HOLDING (OBEYS || LEASE_OVER)
#endif

#define EXPIRY (last_date == NONE -> rule_since + DELAY + LENGTH : last_date)

inline check() {
    take_greatest();
    if
    :: phase == OPEN || phase == PENDING ->
        if
        :: COUNT(greatest) < RULE -> rule_since = NONE
        :: COUNT(greatest) >= RULE && rule_since == NONE -> rule_since = now
        :: else
        fi
    :: else
    fi;
    spoke = spoke & bound;

    /* (a) Bound is the greatest set, and it meets the rule; in force, the delay is over. */
    assert(!LIVE || bound == greatest);
    assert(phase != PENDING || COUNT(greatest) >= RULE);
    assert(!ENTERED || (rule_since != NONE && now >= rule_since + DELAY));
    assert(!ENTERED || (greatest != 0 && (anyone || COUNT(greatest) >= RULE)));

    /* (c) The lab's gate holds at the latest when a pause in force bites. */
    take_span(lab);
    if
    :: phase == IN_FORCE && span != 0 && now >= span + WIND_DOWN ->
        assert(HOLDING);
        SEEN(bites);
        if
        :: constrained == 0 -> SEEN(bites_unknown)
        :: constrained != 0 && known < constrained && own < now -> SEEN(bites_slow_clock)
        :: else
        fi
    :: else
    fi;

    /* (a) No constraint begins before its notice, (d) or is there after the end; the end is where the terms say. */
    assert(phase != IN_FORCE || span == 0 || span >= rule_since + MAX(DELAY, NOTICE));
    assert(!OVER || span == 0);
    assert(!ENTERED || now < EXPIRY);

    if
    :: OVER -> rule_since = NONE; spoke = 0; said[0] = 0; said[1] = 0; said[2] = 0
    :: else
    fi;
    set = 0; greatest = 0; who = 0; from = 0; span = 0
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* Statements: in every order, at every time. What a guard keeps out is refused, and changes nothing.                */

#define HAS_PLEDGED(p) (pledged & BIT(p))
#define IS_BOUND(p) (bound & BIT(p))

inline propose() {
    phase = OPEN
}

/* After the pledge deadline a pledge has to bind at once, or it is refused. */
inline pledge(pledger, w1, w2) {
    pledged = pledged | BIT(pledger);
    waits_1 = waits_1 + w1;
    waits_2 = waits_2 + w2;
    take_fixed_point();
    if
    :: now >= PLEDGES_BY && !(set & BIT(pledger)) -> forget(pledger); SEEN(late_pledge_refused)
    :: else -> settle()
    fi
}

#ifdef BROKEN_NOTICE
#define EFFECT now
#else
#ifdef BROKEN_MINIMUM
#define EFFECT (now + LEAVE_NOTICE)
#else
#define EFFECT MAX(now + LEAVE_NOTICE, in_force + MINIMUM)
#endif
#endif

inline withdraw(quitter) {
    if
    :: rule_since != NONE && IS_BOUND(quitter) && now + CUT_OFF >= rule_since + DELAY -> said[quitter] = now
    :: else
    fi;
    if
    :: phase == OPEN || !IS_BOUND(quitter) || (phase == PENDING && now + CUT_OFF < in_force) ->
        leave(quitter);
        SEEN(left_at_once)
    :: else ->
        if
        :: EFFECT > now -> leaving[quitter] = EFFECT
        :: else -> leave(quitter)
        fi
    fi
}

inline speak(speaker) {
    votes = votes | BIT(speaker);
    spoke = spoke | BIT(speaker);
    count_votes()
}

proctype Participant(byte me) {
end:
    do
    :: d_step { phase == UNPROPOSED && now < PLEDGES_BY && me == 0 -> propose(); check() }
    :: d_step { (phase == OPEN || LIVE) && !HAS_PLEDGED(me) -> pledge(me, 0, 0); check() }
    :: d_step { (phase == OPEN || LIVE) && !HAS_PLEDGED(me) && me == 1 -> pledge(me, 1, 0); check() }
    :: d_step { (phase == OPEN || LIVE) && !HAS_PLEDGED(me) && me == 2 -> pledge(me, 0, 1); check() }
    :: d_step { (phase == OPEN || LIVE) && !HAS_PLEDGED(me) && me == 2 -> pledge(me, 0, 2); check() }
    :: d_step { HAS_PLEDGED(me) && !OVER && leaving[me] == 0 -> withdraw(me); check() }
    :: d_step { ENTERED && IS_BOUND(me) && !(votes & BIT(me)) && now >= in_force + MINIMUM -> speak(me); check() }
    /* An established breach by it, of a time in force that may be over (commitments-78). */
    :: d_step { phase == IN_FORCE && IS_BOUND(me) -> finish(RELEASED); check() }
#ifdef TRIGGERS
    :: d_step { phase == ARMED && IS_BOUND(me) -> finish(RELEASED); check() }
    :: d_step { phase == ARMED && me == 0 -> activate(now); assert(force >= now + NOTICE); check() }
    :: d_step { phase == IN_FORCE && me == 0 -> force = 0; step(TRIGGER_OFF); check() }
    :: d_step { phase == IN_FORCE && me == 1 -> finish(LIFTED); check() } /* when_below = "end" */
#endif
    od
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* Time. A deadline fires before any statement of the same time; of several, in the order of their kinds' names.     */

#ifdef BROKEN_DEADLINES
#define DUE(time) ((time) < now)
#else
#define DUE(time) ((time) <= now)
#endif

inline fire_deadlines() {
    if
    :: phase == PENDING && DUE(in_force) -> enter()
    :: else
    fi;
    if
    :: ENTERED && DUE((last_date == NONE -> in_force + LENGTH : last_date)) -> finish(EXPIRED)
    :: else
    fi;
    if
    :: (phase == OPEN || phase == PENDING) && DUE(last_date) -> finish(LAPSE_DATE)
    :: else
    fi;
    if
    :: phase == OPEN && now == PLEDGES_BY -> finish(DEADLINE)
    :: LIVE && now == PLEDGES_BY ->
        if
        :: (pledged & 2) && !(bound & 2) -> forget(1)
        :: else
        fi;
        if
        :: (pledged & 4) && !(bound & 4) -> forget(2)
        :: else
        fi
    :: else
    fi;
    if
    :: leaving[0] != 0 && DUE(leaving[0]) -> leave(0)
    :: else
    fi;
    if
    :: leaving[1] != 0 && DUE(leaving[1]) -> leave(1)
    :: else
    fi;
    if
    :: leaving[2] != 0 && DUE(leaving[2]) -> leave(2)
    :: else
    fi
}

/* The gate's clock never goes back, and is within the tolerance of the log's. */
proctype Time() {
end:
    do
    :: d_step { now < LAST_TIME && own <= now     -> now++; own = now - 1; fire_deadlines(); check() }
    :: d_step { now < LAST_TIME && own <= now + 1 -> now++; own = now;     fire_deadlines(); check() }
    :: d_step { now < LAST_TIME                   -> now++; own = now + 1; fire_deadlines(); check() }
    od
}

/* The gate reads the log up to now. That it may be out of reach is that it need not. */
proctype Gate() {
end:
    do
    :: d_step {
#ifdef BROKEN_DEAF
        !HOLDING;
#endif
        if
        :: LEASE_OVER && !OBEYS -> SEEN(held_by_lease)
        :: OBEYS && OVER -> SEEN(let_go)
        :: else
        fi;
        known = now;
        take_span(lab);
        constrained = span;
#ifdef BROKEN_LOOSENING
        until = (ENTERED && last_date == NONE -> in_force + LENGTH : last_date);
#endif
        check();
        /* (d) A gate that has read the log after the end does not hold. */
        assert(!OVER || !HOLDING)
    }
    od
}

init {
    atomic {
        c_code { atexit(print_seen); };
#ifdef SMALL
        last_date = NONE;
        lab = 2;
#else
        if :: anyone = 0 :: anyone = 1 fi;
        if :: last_date = NONE :: last_date = PLEDGES_BY :: last_date = PLEDGES_BY + 1 :: last_date = 5 fi;
        if :: lab = 0 :: lab = 1 :: lab = 2 fi;
#endif
        run Participant(0); run Participant(1); run Participant(2); run Time(); run Gate()
    }
}

#ifdef LIVENESS
/* (d) As long as every process goes on (weak fairness) the gate reads the log again and again, that is, it is in reach.
   Then it lets go of training once the commitment is over. */
ltl lets_go { [] (OVER -> <> !HOLDING) }
#endif
