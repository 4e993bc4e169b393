// Publish, activate and retire over a fleet whose servers are killed, run out of space and come back, under clients
// that follow and clients that are pinned. See README.md for the invariants (P1..P5) and for what is left out.

#define SERVERS 3  // 0 and 1 hold range A, 2 holds range B
#if defined(FULL) || defined(RETIRE_ANY)
#define COMMANDS 3  // that the operator gives while there are faults
#else
#define COMMANDS 2
#endif
#ifdef FULL
#define KILLS 2
#else
#define KILLS 1
#endif

#define OLD 0  // generations: the checkpoint's, and a delta on it
#define NEW 1
#define NO_TABLE 2
#define HAS(set, g) (((set) >> (g)) & 1)

typedef Server {
  bool up = true;
  bool no_room;  // of its volume
  // What lasts: the catalogue, and the pieces of NEW that are in its file (bits).
  byte kept = 1;    // generations: bits
  byte named = OLD;  // the active one
  byte file;
  // What a process has: generations that it serves, the one it calls active, pieces that have come.
  byte held = 1;
  byte called = OLD;
  byte staged;
  bool changing;  // a change is under way in this process
  byte heard = OLD;  // what the client that follows has last heard it call active
  byte seen = 1;     // generations that somebody has seen it hold, and nobody has retired: bits
  byte going;        // generations whose retirement has begun: bits
};
Server server[SERVERS];
byte kills, commands;
bool calm;  // no more faults

byte follows = OLD;   // the table of the client that follows
byte under_way = NO_TABLE;  // that of its lookup
bool old_retired;

#define HELD_BY_ALL(g) (HAS(server[0].kept, g) && HAS(server[1].kept, g) && HAS(server[2].kept, g))

// ---------------------------------------------------------------- a server's part: Generations

// Commit: the catalogue, which WriteFileAtomically changes at once; then what readers see. A kill may come between.
inline Commit(i, new_kept, new_named) {
  if
  :: atomic { server[i].changing ->
#ifdef SHOW_FIRST
    server[i].held = new_kept; server[i].called = new_named
#else
    assert(!HAS(new_kept, NEW) || server[i].file == 3);  // P2: all of its rows are there
    server[i].kept = new_kept; server[i].named = new_named
#endif
    }
  :: atomic { !server[i].changing -> ok = false }
  fi;
  if
  :: !ok
  :: atomic { ok && server[i].changing ->
#ifdef SHOW_FIRST
    server[i].kept = new_kept; server[i].named = new_named;
#else
    server[i].held = new_kept; server[i].called = new_named;
#endif
    server[i].changing = false }
  :: atomic { ok && !server[i].changing -> ok = false }
  fi
}

// Publish, of piece `n` (0, 1) of two. With the last one the generation is held.
inline PublishPiece(i, n) {
  held_now = false;  // with this piece
  if
  :: !ok
  :: atomic { ok && (!server[i].up) -> ok = false }
  :: atomic { ok && server[i].up && HAS(server[i].held, NEW) -> skip }
  :: atomic { ok && server[i].up && !HAS(server[i].held, NEW) ->
      if
      :: server[i].no_room -> server[i].staged = 0; ok = false  // DeltaWriter
      :: !server[i].no_room && n == 0 -> server[i].file = 1; server[i].staged = 1  // BeginPublish
#ifdef ANY_PIECE
      :: !server[i].no_room && n == 1 && server[i].staged != 1 -> server[i].file = 2; server[i].staged = 3; server[i].changing = true; held_now = true
#else
      :: !server[i].no_room && n == 1 && server[i].staged != 1 -> server[i].staged = 0; ok = false  // TakeRecords
#endif
      :: !server[i].no_room && n == 1 && server[i].staged == 1 ->
#ifndef CATALOGUE_FIRST
        server[i].file = 3;  // DeltaWriter::Finish
#endif
        server[i].staged = 3; server[i].changing = true; held_now = true
      fi
    }
    if  // EndPublish
    :: held_now ->
      server[i].going = server[i].going & ~2;
      Commit(i, server[i].kept | 2, server[i].named);
      server[i].staged = 0
    :: else
    fi
  fi
}

inline ActivateOn(i, g) {
  if
  :: atomic { !server[i].up || !HAS(server[i].held, g) -> ok = false }
  :: atomic { server[i].up && HAS(server[i].held, g) && server[i].called == g }
  :: atomic { server[i].up && HAS(server[i].held, g) && server[i].called != g ->
      assert(HELD_BY_ALL(g));  // P3
      server[i].changing = true }
    Commit(i, server[i].kept, g)
  fi
}

inline RetireOn(i, g) {
  if
#ifdef RETIRE_ANY
  :: atomic { !server[i].up -> ok = false }
#else
  :: atomic { !server[i].up || server[i].called == g -> ok = false }
#endif
  :: atomic { server[i].up && !HAS(server[i].held, g) }
#ifdef RETIRE_ANY
  :: atomic { server[i].up && HAS(server[i].held, g) ->
#else
  :: atomic { server[i].up && HAS(server[i].held, g) && server[i].called != g ->
#endif
      old_retired = old_retired || g == OLD;
      server[i].seen = server[i].seen & ~(1 << g); server[i].going = server[i].going | (1 << g);
      server[i].changing = true }
    Commit(i, server[i].kept & ~(1 << g), server[i].named);
    atomic {
      if
      :: ok && g == NEW -> server[i].file = 0  // unlink
      :: else
      fi
    }
  fi
}

// ---------------------------------------------------------------- engramctl

// `publish`: Publisher::ChooseServers, SendAll
inline Publish() {
  ok = true;
  for (i : 0 .. SERVERS - 1) {
    atomic {
      if
      :: !server[i].up || !(HAS(server[i].held, NEW) || HAS(server[i].held, OLD)) -> ok = false
      :: else
      fi
    }
  }
  for (i : 0 .. SERVERS - 1) { PublishPiece(i, 0) }
  for (i : 0 .. SERVERS - 1) { PublishPiece(i, 1) }
  assert(!ok || HELD_BY_ALL(NEW))  // P3
}

// `activate`: AskServers, ActivateOn
inline Activate(g) {
  ok = true;
#ifndef ACTIVATE_ANY
  for (i : 0 .. SERVERS - 1) {
    atomic {
      if
#ifdef ACTIVATE_REACHABLE
      :: !server[i].up
      :: server[i].up && !HAS(server[i].held, g) -> ok = false
#else
      :: !server[i].up || !HAS(server[i].held, g) -> ok = false
#endif
      :: else
      fi
    }
  }
#endif
  if
  :: ok ->
    others = true;
    for (i : 0 .. SERVERS - 1) { ActivateOn(i, g); others = others && ok; ok = true };  // the others go on
    ok = others;
    assert(!ok || (server[0].named == g && server[1].named == g && server[2].named == g))  // P3
  :: else
  fi
}

// `retire`, when those who follow have had the time to leave the generation
inline Retire(g) {
  ok = true;
  for (i : 0 .. SERVERS - 1) {
    atomic {
      if
#ifdef RETIRE_ANY
      :: !server[i].up -> ok = false
#else
      :: !server[i].up || server[i].called == g -> ok = false
#endif
      :: else
      fi
    }
  }
  if
  :: atomic { ok && follows != g && under_way != g &&
      server[0].heard != g && server[1].heard != g && server[2].heard != g } ->
    for (i : 0 .. SERVERS - 1) { RetireOn(i, g); ok = true }
  :: else
  fi
}

proctype Operator() {
  byte i;
  bool ok, others, held_now;
  do
  :: commands < COMMANDS ->
    commands++;
    if
    :: Publish()
    :: Activate(NEW)
    :: Activate(OLD)
    :: Retire(OLD)
    :: Retire(NEW)
    fi
  :: break
  od;
  // P5: run again on a fleet that is there, the same commands lead to where they should.
  atomic {
    calm = true;
    for (i : 0 .. SERVERS - 1) { server[i].no_room = false }
  };
  (server[0].up && server[1].up && server[2].up);
  Publish();
  assert(ok);
  Activate(NEW);
  assert(ok && HELD_BY_ALL(NEW))
}

// ---------------------------------------------------------------- faults

active proctype World() {
  byte i;
end:
  do
  :: atomic { !calm && kills < KILLS ->
      kills++;
      select(i : 0 .. SERVERS - 1);
      server[i].up = false; server[i].held = 0; server[i].called = NO_TABLE;
      server[i].staged = 0; server[i].changing = false }
  :: atomic { !calm && !server[0].no_room && !server[2].no_room -> if :: i = 0 :: i = 2 fi; server[i].no_room = true }
  // Generations::Restore: what the catalogue names; what it does not name is removed.
  :: atomic { (!server[0].up || !server[1].up || !server[2].up) ->
      if :: !server[0].up -> i = 0 :: !server[1].up -> i = 1 :: !server[2].up -> i = 2 fi;
      assert(!HAS(server[i].kept, NEW) || server[i].file == 3);  // P2
      assert(HAS(server[i].kept, server[i].named));             // P3
      assert((server[i].seen & ~server[i].kept) == 0);          // P2: what was seen lasts
      server[i].held = server[i].kept; server[i].called = server[i].named;
      if :: !HAS(server[i].kept, NEW) -> server[i].file = 0 :: else fi;
      server[i].up = true }
  od
}

// ---------------------------------------------------------------- clients

// One part of a lookup: server i answers with rows of the generation that was asked for, or refuses.
#ifdef NO_DIGEST
#define ANSWER(i, g) server[i].called
#else
#define ANSWER(i, g) g
#endif
#ifdef NO_DIGEST
#define ANSWERS(i, g) server[i].up
#else
#define ANSWERS(i, g) (server[i].up && HAS(server[i].held, g))
#endif
#define REFUSES(i, g) (server[i].up && !HAS(server[i].held, g))

// ServerSet: asks servers which generation is active, goes on when those of all rows say so.
active proctype Refresher() {
end:
  do
  :: atomic { server[0].up && server[0].heard != server[0].called -> server[0].heard = server[0].called }
  :: atomic { server[1].up && server[1].heard != server[1].called -> server[1].heard = server[1].called }
  :: atomic { server[2].up && server[2].heard != server[2].called -> server[2].heard = server[2].called }
#ifdef CHANGE_UNDER_WAY
  :: atomic { server[2].heard != follows &&
#else
  :: atomic { under_way == NO_TABLE && server[2].heard != follows &&  // FanOut::ChangeTableIfQuiet
#endif
      (server[0].heard == server[2].heard || server[1].heard == server[2].heard) -> follows = server[2].heard }
  od
}

active proctype Follower() {
  byte asked;
end:
  do
  // A lookup: FanOut::Begin, then its parts.
  :: atomic { under_way == NO_TABLE -> under_way = follows };
    asked = under_way;
    atomic {
      if
      :: ANSWERS(0, asked) -> assert(ANSWER(0, asked) == under_way)  // P1
      :: ANSWERS(1, asked) -> assert(ANSWER(1, asked) == under_way)
      :: !server[0].up && !server[1].up  // no server is up: the lookup fails and says so
      :: REFUSES(0, asked) -> assert(false)  // P4
      :: REFUSES(1, asked) -> assert(false)
      fi
    };
    atomic {
#ifdef CHANGE_UNDER_WAY
      asked = follows;
#endif
      if
      :: ANSWERS(2, asked) -> assert(ANSWER(2, asked) == under_way)  // P1
      :: !server[2].up
      :: REFUSES(2, asked) -> assert(false)  // P4
      fi;
      under_way = NO_TABLE
    }
  od
}

// Of the old table, by its digest.
active proctype Pinned() {
  byte i;
end:
  do
  :: atomic {
      select(i : 0 .. SERVERS - 1);
      server[i].seen = server[i].seen | (server[i].held & ~server[i].going);
      if
      :: ANSWERS(i, OLD) -> assert(ANSWER(i, OLD) == OLD)  // P1
      :: !server[i].up
      :: REFUSES(i, OLD) -> assert(old_retired)  // P4
      fi
    }
  od
}

init { run Operator() }
