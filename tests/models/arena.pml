// An arena's take-over: servers of one shard that open, fill, serve and lose one file, and are killed
// anywhere. See README.md for the invariants (A1..A4) and for what is left out.

#define SERVERS 2
#ifdef FULL
#define LIVES 4  // processes started in all
#else
#define LIVES 3
#endif
#define ROWS 2
#define FILES 3  // inodes that the name may come to mean

// The header at the file's front.
#define EMPTY 0    // no bytes, or zeros
#define HALF 1     // cut off by a kill: its checksum is wrong
#define LOADING 2  // ArenaState
#define COMPLETE 3
#define DAMAGED 4

#define BLANK 0  // a row: zeros, as it should be, or with a flipped bit
#define RIGHT 1
#define WRONG 2

#define NOBODY 255

typedef File {
  byte header;
  byte rows[ROWS];
  byte holder = NOBODY;  // of the flock, which ends with its process
  bool known_bad;        // a verifier has found it damaged, and said so
};
File file[FILES];
byte name = FILES;  // the file that the name means; FILES: none
byte files;         // made so far
byte lives;         // processes started so far
byte locked_since;  // files locked when the name was removed: bits
bool removed, flipped;
byte kill = NOBODY;  // the process that is being killed

// ArenaFile::WriteHeader: memcpy, which a kill may cut
inline WriteHeader(state) {
  file[f].header = HALF;
  file[f].header = state
}

// LoadIntoMemory: the rows of the checkpoint
inline Load() {
  assert(file[f].holder == me);  // A2
  file[f].rows[0] = RIGHT;
  if
  :: goto closed  // SIGTERM, or the checkpoint cannot be read: ~ArenaFile
  :: file[f].rows[1] = RIGHT
  fi
}

inline Close() {
  atomic {
    if
    :: f != FILES && file[f].holder == me -> file[f].holder = NOBODY
    :: else
    fi
  }
}

proctype Server(byte me) {
  byte f = FILES;
  bool loading, sound, bad;
  do
  :: lives < LIVES ->
    atomic { lives++; f = FILES; loading = false; sound = false; bad = false };
    {
      skip;
open:
      atomic {  // ArenaFile::OpenAndLock: open(O_CREAT)
        if
        :: name == FILES -> name = files; files++
        :: else
        fi;
        f = name
      };
      atomic {  // flock(LOCK_EX | LOCK_NB)
        if
        :: file[f].holder == NOBODY -> file[f].holder = me
#ifdef NO_LOCK
        :: else -> file[f].holder = me
#else
        :: else -> goto closed  // "in use by another process"
#endif
        fi
      };
#ifndef NO_NAME_CHECK
      atomic {
        if
        :: name != f -> file[f].holder = NOBODY; goto open  // st_nlink == 0: removed in between
        :: else
        fi
      };
#endif
      // A3, at an instant when the lock is held: who removes the name later knows that it is in use.
      assert(name == f || (locked_since & (1 << f)));
      atomic {  // ArenaFile::TakeRows
        if
#ifdef TAKE_ANY
        :: file[f].header != EMPTY -> sound = true
#else
        :: file[f].header == COMPLETE ->
          if  // VerifySample may miss a flipped bit; rows that were never written it may miss too
          :: sound = true
          :: file[f].rows[0] == WRONG || file[f].rows[1] == WRONG -> bad = true
          fi
#endif
        :: else
        fi
      };
      if  // MemoryStore::FailFile
      :: bad -> WriteHeader(DAMAGED); atomic { bad = false; file[f].known_bad = true }
      :: else
      fi;
      if
      :: sound
      :: else ->
        atomic {  // ArenaFile::Clear: ftruncate(0)
          assert(file[f].holder == me);  // A2
          file[f].header = EMPTY; file[f].rows[0] = BLANK; file[f].rows[1] = BLANK;
          file[f].known_bad = false
        };
        // ArenaFile::Allocate: ftruncate, fallocate, the header last
        loading = true;
#ifdef COMPLETE_FIRST
        WriteHeader(COMPLETE);
        Load();
#else
        WriteHeader(LOADING);
        Load();
        WriteHeader(COMPLETE);  // ArenaFile::MarkComplete
#endif
        atomic { loading = false; file[f].known_bad = false }
      fi;
      // Ready: rows go out.
      atomic {
        assert(file[f].holder == me);                                                // A2
        assert(file[f].rows[0] != BLANK && file[f].rows[1] != BLANK);                // A1
        assert(flipped || (file[f].rows[0] == RIGHT && file[f].rows[1] == RIGHT));   // A1
        assert(!file[f].known_bad || (file[f].rows[0] == RIGHT && file[f].rows[1] == RIGHT))  // A4
      };
      if  // the verifier's pass: MemoryStore::FailFile; the server answers DATA_LOSS from here on
      :: file[f].rows[0] == WRONG || file[f].rows[1] == WRONG ->
#ifndef NO_MARK
        WriteHeader(DAMAGED);
#endif
        file[f].known_bad = true
      :: true
      fi
    } unless { atomic { kill == me -> kill = NOBODY; loading = false } };
closed:
    // ~ArenaFile, or the kernel's part of it after a kill
    atomic {
      if
      :: loading -> file[f].header = EMPTY; file[f].rows[0] = BLANK; file[f].rows[1] = BLANK  // ftruncate(0)
      :: else
      fi;
      Close()
    }
  :: else -> break
  od
}

// kill -9 of either, at any step
active proctype Killer() {
end:
  do
  :: atomic { kill == NOBODY && lives > 0 && lives < LIVES -> kill = 1 }
  :: atomic { kill == NOBODY && lives > 0 && lives < LIVES -> kill = 2 }
  :: atomic { kill != NOBODY -> kill = NOBODY }  // it had ended already
  od
}

// An operator removes the file, once; a bit flips in a row that is there, once.
active proctype World() {
end:
  do
  :: atomic {
      !removed && name != FILES ->
      removed = true;
      if
      :: file[name].holder != NOBODY -> locked_since = locked_since | (1 << name)
      :: else
      fi;
      name = FILES
    }
  :: atomic { !flipped && files > 0 && file[0].rows[1] == RIGHT -> flipped = true; file[0].rows[1] = WRONG }
  od
}

init { atomic { run Server(1); run Server(2) } }
