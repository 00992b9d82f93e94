/*
 * The rules for split transactions and their ledger, for spin. README.md beside this file says what is
 * modelled and how to read a counterexample; check.sh runs every configuration and every mutant.
 *
 * Recipients of one sender, each at a relay of its own: so a recipient, its relay and its leg are one number
 * r: 0 (local), 1, 2. The sender's queue tries each message again until all its recipients are settled.
 *
 * Two models in one text. SAFETY (the default): crashes and clients that leave at any moment, without bound;
 * whose turn it is does not matter to what is asserted, so it is anybody's. LIVE: the rotation, and the ledger begins in any
 * state that there can be, so that no crash has to be played; relay x answers finally, the others do what they like.
 *
 * Switches: MESSAGES (1, 2), FIRST and SECOND (masks of their recipients), PARALLEL (they have sessions at the same
 * time), TIDY (no crash, no client leaves), EXPIRY (the set may be forgotten). MUT_… each take a rule away; SEE_… each
 * call it an error when something that should be able to happen does.
 */
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef FIRST
#define FIRST 7
#endif
#ifndef SECOND
#define SECOND 7
#endif

#define NOBODY 3
#define R(r) (1 << (r))                         /* in a mask of recipients */
#define COPY(r) (1 << (3 * m + (r)))            /* in a mask of messages and recipients */
#define COPIES(mask) ((mask) << (3 * m))
#define EVERY_COPY(r) ((1 << (r)) | (8 << (r))) /* of any message */
#define SEVERAL(mask) (((mask) & ((mask) - 1)) != 0)
#define FOR_EACH(mask, step) \
	if :: ((mask) & 1) -> step(0) :: else fi; \
	if :: ((mask) & 2) -> step(1) :: else fi; \
	if :: ((mask) & 4) -> step(2) :: else fi

byte pending[MESSAGES]; /* the sender's queue: recipients without a final answer */
#define SETTLED(r) ((pending[0] & R(r)) == 0 && (pending[MESSAGES - 1] & R(r)) == 0)

/* ---- the ledger ---- */

byte records; /* COPY: this message was accepted, and the client is not known to know it */

#ifdef LIVE
/* The rotation: two bits a leg, r + 1, the head lowest */

#define GHOST(step) skip
#define MAY_FAIL(r) ((r) != x) /* relay r need not answer finally */

byte turns;
bit unused; /* the leg that had the last turn did not appear */
byte x = NOBODY;

#define MEMBER(r) ((turns & 3) == (r) + 1 || ((turns >> 2) & 3) == (r) + 1 || (turns >> 4) == (r) + 1)
#define LONE (turns != 0 && turns < 4)
#define HEAD ((turns & 3) - 1)
#define MOMENT skip
#define CUT_IF_DEAD skip

inline append(r) {
	if
	:: MEMBER(r) -> skip
	:: !MEMBER(r) && turns == 0 -> turns = (r) + 1
	:: !MEMBER(r) && turns > 0 && turns < 4 -> turns = turns | (((r) + 1) << 2)
	:: !MEMBER(r) && turns >= 4 -> turns = turns | (((r) + 1) << 4)
	fi
}

inline take_out(r) {
	if
	:: (turns & 3) == (r) + 1 -> turns = turns >> 2
	:: ((turns >> 2) & 3) == (r) + 1 -> turns = (turns & 3) | ((turns >> 4) << 2)
	:: (turns >> 4) == (r) + 1 -> turns = turns & 15
	:: else
	fi
}

inline put_first(r) {
	take_out(r);
	turns = (turns << 2) | (r + 1)
}

inline written() {
	skip
}

#else
/* A mask of members, and what is on disk. */

#define GHOST(step) step
#define MAY_FAIL(r) true

byte turns;
byte records_disk; /* what a crash leaves of them */

byte copies;   /* COPY: the relay has it */
byte excused;  /* COPY: the rules allow one more */
byte fresh;    /* COPY: accepted, not durable, and the client was told nothing: a crash excuses one more */
byte refused;  /* COPY: the relay said 5xx about this one, in this transaction */
byte finished; /* messages */
bit dead[MESSAGES]; /* this session did not outlive a crash */

#define MEMBER(r) ((turns & R(r)) != 0)
#define LONE (turns != 0 && !SEVERAL(turns))
#define HEAD (turns >> 1) /* of a lone one */
#define UNWRITTEN (records != records_disk)

#ifdef TIDY
#define MAY_GO false
#else
#define MAY_GO true
#endif

/* A moment: between any two steps that others can see the session may be gone with all of splitmx (`cut`), the
 * client may leave (`left`), the writer may have become durable. A crash that loses nothing is a client that leaves. */
#define MOMENT \
	if \
	:: dead[m] -> goto cut \
	:: !dead[m] -> \
		if \
		:: true \
		:: UNWRITTEN -> written(); printf("%d: durable\n", m) \
		:: MAY_GO && CRASH_MATTERS -> crash(); printf("%d: crash\n", m); goto cut \
		:: MAY_GO -> printf("%d: the client leaves\n", m); goto left \
		fi \
	fi

#define CRASH_MATTERS (UNWRITTEN || fresh)
#define CUT_IF_DEAD if :: dead[m] -> goto cut :: else fi

inline append(r) {
	turns = turns | R(r)
}

inline take_out(r) {
	turns = turns & ~R(r)
}

inline put_first(r) {
	append(r)
}

inline written() {
	records_disk = records;
	fresh = fresh & ~records
}

inline crash() {
#ifdef SEE_CRASH_EXCUSES
	assert(!(fresh & ~records_disk));
#endif
	excused = excused | (fresh & ~records_disk);
	fresh = 0;
	records = records_disk;
	turns = 0; /* what holds records, and any others */
	if :: true :: append(0) fi;
	if :: true :: append(1) fi;
	if :: true :: append(2) fi;
	if :: (records & EVERY_COPY(0)) -> append(0) :: else fi;
	if :: (records & EVERY_COPY(1)) -> append(1) :: else fi;
	if :: (records & EVERY_COPY(2)) -> append(2) :: else fi;
	dissolve_lone();
#ifdef PARALLEL
	dead[0] = 1;
	dead[MESSAGES - 1] = 1
#endif
}

#endif

/* A set of one leg, and no acceptance in it, is dissolved. */
inline dissolve_lone() {
	if
	:: LONE && (records & EVERY_COPY(HEAD)) == 0 -> turns = 0
	:: else
	fi
}

/* A final answer takes a leg out, but for its records of other messages. */
inline leave(r) {
	records = records & ~COPY(r);
	if
	:: (records & EVERY_COPY(r)) == 0 -> take_out(r); dissolve_lone()
	:: else
	fi
}

/* Sent away, or held by a transaction that touched the set: a leg of its own at the tail. */
inline join(r) {
#ifdef MUT_NO_JOINING
	skip
#else
	append(r)
#endif
}

/* Whose turn is it? The transaction has just named a member of the set. */
inline touch() {
#ifdef LIVE
	turn = HEAD;
#ifndef MUT_NO_LOT
	if /* after a turn that nobody used one is drawn by lot: else a rhythm of retries can starve a leg for ever */
	:: unused && MEMBER(x) && (pending[m] & R(x)) -> turn = x /* the draw that helps, see README.md */
	:: else
	fi;
	unused = 0;
#endif
#if !defined(MUT_NO_TURN) && !defined(MUT_TURN_AT_END)
	take_out(turn);
	append(turn);
#endif
	drawn = 1;
#else
	if
	:: MEMBER(0) -> turn = 0
	:: MEMBER(1) -> turn = 1
	:: MEMBER(2) -> turn = 2
	fi;
#endif
	printf("%d: touched by %d, the turn is %d's\n", m, r, turn)
}

/* No more recipients will be named. */
inline note_turn() {
#ifdef LIVE
	if
	:: drawn && turns != 0 -> unused = !named
	:: drawn && turns == 0 -> unused = 0
	:: else
	fi;
#ifndef MUT_TURN_AT_END
	drawn = 0;
	named = 0;
	turn = 0
#endif
#else
	turn = 0
#endif
}

inline deliver(r) {
	printf("%d: %d has a copy\n", m, r);
	GHOST(assert(!(copies & COPY(r)) || (excused & COPY(r)))); /* no second copy without a cause */
#ifdef SEE_SECOND_COPY
	assert(!(copies & COPY(r)));
#endif
	GHOST(copies = copies | COPY(r));
	GHOST(excused = excused & ~COPY(r))
}

/* A refusal takes records with it. A relay that then accepts after all gets a second copy. */
#ifdef SEE_CHANGED_MIND
#define CHANGED_MIND(which) skip
#else
#define CHANGED_MIND(which) GHOST(excused = excused | (which))
#endif

/* What happens to a settled recipient does not matter any more. */
inline settle(mask) {
	pending[m] = pending[m] & ~(mask);
	GHOST(copies = copies | COPIES(mask));
	GHOST(excused = excused | COPIES(mask));
	GHOST(fresh = fresh & ~COPIES(mask))
}

inline told_250(mask) {
	GHOST(assert((copies & COPIES(mask)) == COPIES(mask))); /* no false 250 */
	settle(mask)
}

inline told_5xx(mask) {
	GHOST(assert((refused & COPIES(mask)) == COPIES(mask))); /* a 5xx is that relay's own */
	settle(mask)
}

#ifdef PARALLEL
#define MY_LANE true
#define PASS_LANE skip
#else
byte lane; /* the messages take turns, as in a queue that is run in the same order again and again */
#define MY_LANE (lane == m)
#define PASS_LANE \
	if \
	:: pending[MESSAGES - 1 - m] != 0 -> lane = MESSAGES - 1 - m \
	:: else \
	fi
#endif

proctype message(bit m) {
	byte todo;   /* recipients to be named yet in this transaction */
	byte legs;   /* with an accepted RCPT */
	byte only;   /* one leg only: those that may go on, and 8 */
	byte done;   /* legs that have committed */
	byte turn;   /* the leg whose turn it is */
	bit drawn;   /* the set was touched */
	bit named;   /* the leg whose turn it is was named */
	byte r;

idle:
	atomic {
		todo = 0; legs = 0; only = 0; done = 0; turn = 0; drawn = 0; named = 0; r = 0;
		GHOST(dead[m] = 0);
		GHOST(refused = refused & ~COPIES(7));
		if
		:: pending[m] == 0 -> goto settled
		:: pending[m] != 0 && MY_LANE
		fi;
#ifdef EXPIRY
		if
		:: true
		:: turns != 0 ->
			turns = 0;
			GHOST(excused = excused | records);
#ifndef MUT_RECORD_WITHOUT_SET
			records = 0;
#endif
			printf("%d: the set has expired\n", m)
		fi;
#endif
		todo = pending[m];
		printf("%d: MAIL, for mask %d\n", m, todo)
	}

rcpt:
	atomic {
		MOMENT;
		if
		:: todo == 0 -> goto data
		:: (todo & 1) -> r = 0
		:: (todo & 2) -> r = 1
		:: (todo & 4) -> r = 2
		fi;
		todo = todo & ~R(r);
		if
		:: !only && MEMBER(r) ->
			touch();
			if
			:: legs ->
				only = 8 | legs;
				FOR_EACH(legs, join)
			:: else -> only = 8 | R(turn)
			fi
		:: else
		fi;
#ifdef LIVE
		if
		:: drawn && r == turn -> named = 1
		:: else
		fi;
#else
		turn = 0;
#endif
		if
		:: only && !(only & R(r)) ->
			join(r);
			dissolve_lone();
			printf("%d: RCPT %d: 452\n", m, r)
		:: else ->
			if
			:: legs = legs | R(r); printf("%d: RCPT %d: 250\n", m, r)
			:: MAY_FAIL(r) -> printf("%d: RCPT %d: 4xx\n", m, r) /* or 451, the relay is down */
			:: true -> /* final, and its records go with it; if it takes the message later, it has changed its mind */
				GHOST(refused = refused | COPY(r));
				CHANGED_MIND(records & EVERY_COPY(r));
				records = records & ~EVERY_COPY(r);
				leave(r);
				told_5xx(R(r));
				printf("%d: RCPT %d: 5xx\n", m, r)
			fi
		fi;
		r = 0;
		goto rcpt
	}

data: /* and the body */
	atomic {
		CUT_IF_DEAD;
		only = 0;
		note_turn();
		if
		:: legs == 0 -> goto ended
		:: else
		fi;
		if
		:: true
#ifdef LIVE
		:: (legs & ~R(x)) -> printf("%d: silence, and the client has less patience than we\n", m); goto left_in_data
#endif
		:: MAY_FAIL(legs >> 1) || SEVERAL(legs) -> /* one refuses DATA, or is lost */
			printf("%d: one fails before commit\n", m);
			goto failed
		:: !SEVERAL(legs) -> /* one leg, and its own 5xx to DATA */
			GHOST(refused = refused | COPIES(legs));
			goto refuse
		fi
	}
#ifdef MUT_NO_BARRIER
	atomic { /* a leg is told the end before the client has said it */
		if
		:: true
		:: (legs & 1) -> deliver(0); done = 1
		:: (legs & 2) -> deliver(1); done = 2
		:: (legs & 4) -> deliver(2); done = 4
		fi
	}
#endif
	atomic {
		MOMENT; /* the last at which the client may leave and nobody has the message */
		r = legs >> 1;
		if
#ifdef MUT_NO_IDENTITY
		:: !SEVERAL(legs) && MEMBER(r) && (records & EVERY_COPY(r)) -> goto already
#elif defined(MUT_RECORD_WITHOUT_SET)
		:: !SEVERAL(legs) && (records & COPY(r)) -> goto already
#else
		:: !SEVERAL(legs) && MEMBER(r) && (records & COPY(r)) -> goto already
#endif
		:: else
		fi
	}

commit: /* remote ones first */
	atomic {
		CUT_IF_DEAD;
		if
		:: (legs & ~done & 4) -> r = 2
		:: (legs & ~done & 6) == 2 -> r = 1
		:: (legs & ~done & 7) == 1 -> r = 0
		:: (legs & ~done) == 0 -> goto all_have_it
		fi;
		if
		:: deliver(r);
			done = done | R(r);
			if
			:: done == legs -> /* from here on the client may miss the 250 (RFC 1047) */
				GHOST(excused = excused | COPIES(legs));
				GHOST(fresh = fresh & ~COPIES(legs));
				goto all_have_it
			:: else /* one has it, others are pending: the set is born in advance */
#ifndef MUT_NO_RECORD
				records = records | COPY(r);
#endif
				GHOST(fresh = fresh | COPY(r));
				put_first(r);
				FOR_EACH(legs, append)
			fi
		:: MAY_FAIL(r) ->
			deliver(r);
			GHOST(excused = excused | COPY(r));
			printf("%d: %d's reply is lost\n", m, r);
			goto failed
		:: MAY_FAIL(r) -> printf("%d: %d defers, or is lost undelivered\n", m, r); goto failed
		:: true ->
			printf("%d: %d refuses\n", m, r);
			GHOST(refused = refused | COPY(r));
#ifndef MUT_PASS_5XX
			if
			:: SEVERAL(legs) -> goto failed
			:: else
			fi;
#endif
			goto refuse
#ifdef LIVE
		:: r != x -> printf("%d: %d is silent, and the client has less patience than we\n", m, r); goto left_in_data
#endif
		fi
	}
	atomic {
		MOMENT; /* no commit begins after the client has gone */
		goto commit
	}

failed: /* of several: 451 once the set is durable */
	atomic {
		CUT_IF_DEAD;
		done = 0;
		r = 0;
		if
		:: !SEVERAL(legs) -> goto ended
		:: else -> FOR_EACH(legs, append)
		fi
	}
	atomic {
		MOMENT;
#ifndef MUT_NO_DURABLE
		written();
#endif
		GHOST(fresh = fresh & ~COPIES(7));
		printf("%d: told 451\n", m);
		goto ended
	}

all_have_it: /* 250 */
	atomic {
		CUT_IF_DEAD;
		done = 0;
		r = 0;
		FOR_EACH(legs, leave)
	}
	atomic {
		MOMENT;
		told_250(legs);
		printf("%d: has read 250 for mask %d\n", m, legs);
		goto ended
	}

refuse: /* one leg, its own 5xx */
	atomic {
		CUT_IF_DEAD;
		done = 0;
		r = 0;
		CHANGED_MIND(records & COPIES(legs));
		FOR_EACH(legs, leave)
	}
	atomic {
		MOMENT;
		told_5xx(legs);
		printf("%d: has read 5xx for mask %d\n", m, legs);
		goto ended
	}

already: /* 250 already accepted: the upstream was reset uncommitted */
	atomic {
#ifdef MUT_FORGET_EARLY
		leave(r);
#endif
		MOMENT; /* the client may not have read it */
		told_250(legs);
#ifdef SEE_ALREADY
		assert(false);
#endif
		printf("%d: has read 250 already accepted for %d\n", m, r)
	}
	atomic {
		MOMENT; /* it has read it, and may leave without a word */
#ifndef MUT_NEVER_FORGET
		leave(r);
#endif
		r = 0
	}

ended:
	atomic {
		CUT_IF_DEAD;
#ifdef MUT_TURN_AT_END
		if
		:: drawn && MEMBER(turn) -> take_out(turn); append(turn)
		:: else
		fi;
#endif
		goto left
	}

left_in_data: /* by the client, while a leg owed an answer */
	atomic {
#ifndef MUT_LEAVING_TELLS_NOTHING
		if
		:: SEVERAL(legs) -> FOR_EACH(legs, append)
		:: else
		fi;
#endif
		goto left
	}

left:
cut:
	atomic {
		note_turn();
		PASS_LANE;
		goto idle
	}

settled:
	GHOST(atomic {
		finished++;
		assert(MAY_GO || finished < MESSAGES || (turns == 0 && records == 0)) /* nothing is kept for nothing */
	})
}

init {
	atomic {
		pending[0] = FIRST;
#if MESSAGES == 2
		pending[1] = SECOND;
#endif
#ifdef LIVE
		/* Some may be settled. Any ledger: a rotation of some legs, any records of members. */
		if :: true :: pending[0] = pending[0] & ~1 fi;
		if :: true :: pending[0] = pending[0] & ~2 fi;
		if :: true :: pending[0] = pending[0] & ~4 fi;
#if MESSAGES == 2
		if :: true :: pending[1] = pending[1] & ~1 fi;
		if :: true :: pending[1] = pending[1] & ~2 fi;
		if :: true :: pending[1] = pending[1] & ~4 fi;
#endif
		if :: pending[0] == 0 -> pending[0] = FIRST :: else fi;
		do
		:: !MEMBER(0) -> append(0)
		:: !MEMBER(1) -> append(1)
		:: !MEMBER(2) -> append(2)
		:: MEMBER(0) && !(records & 1) -> records = records | 1
		:: MEMBER(1) && !(records & 2) -> records = records | 2
		:: MEMBER(2) && !(records & 4) -> records = records | 4
#if MESSAGES == 2
		:: MEMBER(0) && !(records & 8) -> records = records | 8
		:: MEMBER(1) && !(records & 16) -> records = records | 16
		:: MEMBER(2) && !(records & 32) -> records = records | 32
#endif
		:: true -> break
		od;
		dissolve_lone();
		if
		:: turns != 0 -> unused = 1
		:: true
		fi;
		if
		:: !SETTLED(0) -> x = 0
		:: !SETTLED(1) -> x = 1
		:: !SETTLED(2) -> x = 2
		fi;
		printf("the turns are %d, the records %d, the last turn was unused: %d; who must not starve: %d\n",
		       turns, records, unused, x);
#endif
		run message(0);
#if MESSAGES == 2
		run message(1)
#endif
	}
}

#ifdef LIVE
ltl nobody_starved { <> (x != NOBODY && SETTLED(x)) }
#endif
