// A slot's life: steps that are submitted, answered, failed, cancelled and closed under a stream that waits for the
// slot's words. See README.md for the invariants (S1..S6) and for what is left out.

#define LAYERS 2
#ifdef FULL
#define STEPS 3
#else
#define STEPS 2
#endif

#define PENDING 0  // the words' values
#define READY 1
#define ERROR 2

// Rows of a layer's buffer: the number of the step whose they are, or
#define ZEROS 0
#define PART 99  // being written

mtype = { START, CANCEL };
mtype = { NONE, ACCEPTED, REFUSED };  // what a submit has said

byte word[LAYERS];
byte rows[LAYERS];
bool written[LAYERS];  // the word has left PENDING since it was last set to it
bool reading[LAYERS];  // the stream is reading the rows
bool gone;             // the slot was destroyed: nothing may be touched

mtype said[STEPS + 1];
bool there[STEPS + 1];  // a prefetch has all of the step's rows
bool done[((STEPS + 1) * LAYERS)], good[((STEPS + 1) * LAYERS)];
byte called[STEPS + 1];  // on_done
bool over[STEPS + 1];
bool dropped[STEPS + 1];
bool written_under_lock;  // Lookup::mutex_ is held

// IoThread
chan commands = [4] of { mtype, byte };
chan running = [4] of { mtype, byte };
bool closing, has_commands, asleep, wake, ended, closed;
byte submitting;
byte current;  // the step under way on the thread; 0: none

chan stream = [1] of { byte };  // steps that the caller has enqueued
byte passed;                    // the last step that the stream has passed: MarkFree's event

#define AT(s, l) ((s) * LAYERS + (l))
#define ALL_DONE(s) (done[AT(s, 0)] && done[AT(s, 1)])

inline SetRows(l, what) {
  atomic { assert(!gone); assert(!reading[l]); rows[l] = what }  // S2, S5
}

// What writes a word but its reset.
inline SetWord(l, value) {
  atomic {
    assert(!gone);        // S5
    assert(!written[l]);  // S1
    written[l] = true;
    word[l] = value
  }
}

inline ResetWord(l) {
  atomic { written[l] = false; word[l] = PENDING }
}

// Lookup::Finish, and what has come before it: the rows.
inline Finish(s, l, value) {
#ifdef WORD_FIRST
  SetWord(l, value);
#endif
  if
  :: value == READY -> SetRows(l, PART); SetRows(l, s)
#ifndef NO_ZEROS
  :: value == ERROR -> SetRows(l, PART); SetRows(l, ZEROS)
#endif
  :: else
  fi;
  atomic { !written_under_lock -> written_under_lock = true };
#ifndef WORD_FIRST
  SetWord(l, value);
#endif
  atomic { good[AT(s, l)] = (value == READY); done[AT(s, l)] = true };
  written_under_lock = false
}

// IoThread::Post behind its lock: by a store and a look, the thread does it the other way round.
inline Notify() {
  has_commands = true;
  if
  :: asleep -> wake = true
  :: else
  fi
}

// ---------------------------------------------------------------- the I/O thread

// Lookup::CallBack, when the last layer is done
inline CallBack(s) {
  atomic { called[s]++; assert(called[s] == 1); current = 0 };  // S4
  over[s] = true
}

// FanOut::FailLayer
inline FailLayer(s, l) {
  if
#ifndef TWO_ENDS
  :: done[AT(s, l)]
#endif
  :: else -> Finish(s, l, ERROR)
  fi
}

inline FailAll(s) {
  FailLayer(s, 0); FailLayer(s, 1);
  CallBack(s)
}

// IoThread::RunCommands behind its look at has_commands_. `shutdown`: FanOut::Shutdown has been
inline RunAll(shutdown) {
  has_commands = false;
  atomic { do :: commands ? what, s -> running ! what, s :: empty(commands) -> break od };
  do
  :: running ? what, s ->
    if
    :: what == START ->  // FanOut::Start
      if
      :: ALL_DONE(s) -> CallBack(s)
      :: !ALL_DONE(s) && (shutdown || dropped[s]) -> FailAll(s)
      :: else -> current = s
      fi
    :: what == CANCEL ->
      if
      :: current == s && !ALL_DONE(s) -> FailAll(s)
      :: else
      fi
    fi
  :: empty(running) -> break
  od
}

// IoThread::Run
proctype Io() {
  byte s;
  mtype what;
  do
  :: has_commands ->
    RunAll(false);
    if
    :: closing -> break
    :: else
    fi
  :: current != 0 ->
    s = current;
    if
    :: !done[AT(s, 0)] -> Finish(s, 0, READY)  // an answer
    :: !done[AT(s, 1)] -> Finish(s, 1, READY)
    :: !done[AT(s, 0)] -> Finish(s, 0, ERROR)  // a failure, the timeout
    :: !done[AT(s, 1)] -> Finish(s, 1, ERROR)
    fi;
    if
    :: ALL_DONE(s) -> CallBack(s)
    :: else
    fi
  :: current == 0 ->  // Wait
#ifdef ASLEEP_LATE
    if
    :: !has_commands -> asleep = true;
end_late: (wake); wake = false
    :: else
    fi;
#else
    asleep = true;
    if
    :: !has_commands ->
end_asleep: (wake); wake = false
    :: else
    fi;
#endif
    asleep = false
  od;
  if  // FanOut::Shutdown
  :: current != 0 -> s = current; FailAll(s)
  :: else
  fi;
#ifndef NO_WAIT_FOR_SUBMITS
  (submitting == 0);
#endif
#ifdef LAST_LOOK
  if
  :: has_commands -> RunAll(true)
  :: else
  fi;
#else
  RunAll(true);
#endif
  ended = true
}

// ---------------------------------------------------------------- the caller

inline Refuse() {  // Slot::Refuse
#ifndef REFUSED_ROWS
  SetRows(0, ZEROS); SetRows(1, ZEROS);
#endif
  SetWord(0, ERROR); SetWord(1, ERROR);
  said[s] = REFUSED
}

// Slot::Submit, of step s
inline Submit() {
  // CheckIdle: who has seen all words leave PENDING is not refused.
#ifndef IDLE_WITHOUT_LOCK
  atomic { !written_under_lock -> written_under_lock = true };
#endif
  assert(last == 0 || ALL_DONE(last));  // S6
#ifndef IDLE_WITHOUT_LOCK
  written_under_lock = false;
#endif
#ifndef STREAM_RESETS
  ResetWord(0); ResetWord(1);
#endif
#ifdef FINISH_FIRST
  // IoThread::open, FinishAtOnce, IoThread::Submit
  if
  :: !closing && there[s] -> Finish(s, 0, READY); Finish(s, 1, READY)
  :: else
  fi;
  if
  :: atomic { !closing -> commands ! START, s }; Notify(); said[s] = ACCEPTED; last = s
  :: closing -> Refuse()
  fi
#else
  // IoThread::Submit
  if
  :: atomic { !closing -> submitting++ };
    if
    :: there[s] -> Finish(s, 0, READY); Finish(s, 1, READY)  // FinishAtOnce
    :: else
    fi;
    atomic { commands ! START, s; submitting-- };
    Notify(); said[s] = ACCEPTED; last = s
  :: closing -> Refuse()
  fi
#endif
}

inline Drop() {  // Lookup::Drop
  if
  :: !ALL_DONE(last) ->
    dropped[last] = true;
    if
    :: atomic { !closing -> commands ! CANCEL, last }; Notify()
    :: closing
    fi
  :: else
  fi
}

inline Enqueue() {
  stream ! s
}

proctype Caller() {
  byte s = 1, last = 0;
  do
  :: s <= STEPS ->
    if
    :: there[s] = true
    :: true
    fi;
#ifdef STREAM_RESETS
    if  // the step may be launched before it is submitted
    :: Enqueue(); Submit()
    :: Submit(); Enqueue()
    fi;
#else
    Submit(); Enqueue();
#endif
    if  // Slot::Cancel
    :: said[s] == ACCEPTED -> Drop()
    :: true
    fi;
    if  // Slot::Wait, which says what the words say
    :: said[s] == ACCEPTED ->
      (ALL_DONE(s));
#ifndef STREAM_RESETS
      assert(good[AT(s, 0)] == (word[0] == READY) && good[AT(s, 1)] == (word[1] == READY))  // S3
#endif
    :: said[s] == REFUSED  // S3: the stream looks at the words
    :: true
    fi;
#ifndef NO_WAIT_UNTIL_FREE
    (passed == s);  // StreamWords::WaitUntilFree
#endif
    s++
  :: else -> break
  od;
  (passed == STEPS);  // the streams have passed before the slot is destroyed
  if  // ~Slot
  :: last != 0 -> Drop(); (over[last])
  :: else
  fi;
  gone = true;
  // S4: on_done once for each accepted step, never for a refused one.
  for (s : 1 .. STEPS) {
    assert(called[s] == (said[s] == ACCEPTED -> 1 : 0))
  }
}

// ---------------------------------------------------------------- the stream

inline WaitAndRead(l) {
  (word[l] != PENDING);  // cuStreamWaitValue64
  atomic {
    reading[l] = true;
    seen = word[l];
    assert(seen == READY -> rows[l] == s : rows[l] == ZEROS)  // S2
  };
  atomic {
    reading[l] = false;
    assert(word[l] == seen)  // S1
  }
}

proctype Stream() {
  byte s, seen;
end:
  do
  :: stream ? s ->
    WaitAndRead(0);
    WaitAndRead(1);
    atomic { assert(said[s] != REFUSED || (word[0] == ERROR && word[1] == ERROR)) };  // S3
#ifdef STREAM_RESETS
    ResetWord(0); ResetWord(1);
#endif
    passed = s  // MarkFree
  od
}

// Client::~Client, at any time, by any thread; or never
proctype Closer() {
  if
  :: true
  :: goto left
  fi;
  closing = true;
  has_commands = true;
  wake = true;
  (ended);
  closed = true;
left:
  skip
}

init { atomic { run Caller(); run Stream(); run Io(); run Closer() } }
