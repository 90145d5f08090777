"""Rows that miss their goal: the profile that shows why, and what was tried. By the row's work; written by hand.

``report.write`` puts the text into a row that is missed, and leaves it out of one that is met. After a text was
changed, ``python -m loadtest.report`` writes JSON and page anew from what was measured.
"""

PROFILES: dict[str, str] = {
    "people nearby: 50 within 5 km, one call": (
        "7.9 to 9.1 us in quiet moments, 12 in this run; the same call at 10 M people took 7.3, so the cities "
        "drawn and the machine's moment weigh more than the size. Of 8 us, timed by stopping the kernel after "
        "each step: 1.1 the entry of the compiled function with 7 arrays, 0.2 its room, 1.0 finding the ranges of"
        " 7 cells (three cache misses each, overlapped), 0.5 reading about 64 members, 0.5 their expiries, 0.8 "
        "sorting, 0.2 writing, 0.5 three result arrays, the rest Python. GEOSEARCH's ratio goes with it: at 9 us "
        "it would be 90. Tried and kept: one array instead of five, expiries read before anything is written (7 "
        "us to 0.5), an exact bitmap of coarse cells, a smaller window; 16 to 27 us before. Tried and slower: "
        "results as views of one array, or as records. Not taken: the compiled entry without Numba's dispatch, "
        "0.4 us less, but then no dtype is checked."
    ),
    "places: 50 nearest within 1 km, one call": (
        "Beside cKDTree and PostGIS the goals are met. About 3 us of the call are spent before the search finds "
        "anything (two result arrays, four arrays handed to the kernel, sines); the rest was not split further. "
        "Tried: the tree in one array and a dtype at hand, 6 % less; one stack instead of two, nothing."
    ),
    "stores: 5 nearest that are open with two services (22% of all), one call": (
        "1.53 where 1.5 is the goal. Of 100 stores 22 qualify, so that about 4.6 times as many points are passed "
        "for 5 of them. What makes every call cheaper makes this ratio larger, as both sides share the fixed "
        "part: the packed tree took a tenth off both."
    ),
    "event loop late during 20 rebuilds of the people index in a thread, 99.9 % of ticks of 1 ms": (
        "7.3 ms, 2.8 without any rebuild. Of a rebuild's processor time 178 of 190 ms (on a busy machine) are in "
        "kernels that hold no lock; the longest step outside them takes 2.4 ms. So what is above the idle loop's "
        "own lateness is both cores at work, memory mapped and a switch of 5 ms that Python's lock may take. "
        "Tried: the index in a thread of its own, all loops in kernels without the lock. Not tried: a process of "
        "its own with shared memory."
    ),
    "memory of a person in a worker, all in: settings, presence, index and an id of 12 characters": (
        "113 bytes, where the index with its id takes 34. Counted: cells published, at the stranger edge and "
        "pending 24; expiry, shown until, reported, last extended and first seen 40; keyed hash 8; id 22 to 24 "
        "(12 text, 4 start, 6 index); index of the epoch 14; single bytes about 3. Tried and kept: large columns "
        "mapped apart, so that zeros nobody wrote take no memory (140 to 165 before), the id table grown by a "
        "quarter. Not tried: cells of resolution 8 as 31 bits (12 less), times in 32 bits (20 less, but expiries "
        "and clears are exact to the millisecond), shown until not kept (8 less); all three together would leave "
        "about 73."
    ),
    "with those inside scripts, 2,000 updates/s, 2 workers": (
        "12.0, and 22.8 of commands sent. Two workers share the 2,000 updates, so that each batch, which costs "
        "the same few commands, holds half as many; at 5,000 updates a second it is 27. A worker could wait "
        "longer for a batch to fill, and each update would be answered later (42 ms now)."
    ),
    "CPU an update folded, at 50,000/s": (
        "6.9 us in this run, with 2.8 in the one before it; measured again alone a few minutes later at the same "
        "commit, 2.5 (0.13 of a core), and 2.8 at an older one. What disturbed this run is not known."
    ),
}

NOT_LOOKED_INTO = "not looked into yet"


def profile_of(work: str) -> str:
    """Of the row with this work."""
    return PROFILES.get(work, NOT_LOOKED_INTO)
