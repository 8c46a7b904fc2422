package diff

import "github.com/twinkeel/twinkeel/deltas/diff/suffix"

const (
	// maxFind is how long matches are searched for; longer ones are grown.
	maxFind = 4 << 10
	// goodRun is how many bytes must go on as they did for no other match to be searched.
	goodRun = 16
	// gain is by how many bytes another match must be better than to go on as before.
	gain = 8
)

// match says that length bytes of new are like those of old, many of them the same.
type match struct {
	new, old, length int
}

// aligner finds the matches of new in old, in the manner of bsdiff (Colin Percival,
// "Naive differences of executable code", 2003).
type aligner struct {
	index    *suffix.Index // of old
	old, new []byte

	list         []match
	start        int // of what is not yet matched, in new
	from         int // where that would be in old, did the last match go on
	displacement int // of old to new, of the last match

	next found // what was searched for last
}

// found is the longest match of new[scan:] in old that the index knows of.
type found struct {
	scan, at, length int
}

// longest returns the longest match of new[scan:] in old.
func (a *aligner) longest(scan int) (at, length int) {
	f := a.search(scan)
	at, length = f.at, f.length
	// Suffixes that are not sorted begin a byte earlier than some that are.
	if g := a.search(scan + 1); g.length >= length && g.at > 0 && a.old[g.at-1] == a.new[scan] {
		at, length = g.at-1, g.length+1
	}
	return at, length
}

func (a *aligner) search(scan int) found {
	if a.next.scan != scan {
		a.next = found{scan: scan}
		if scan < len(a.new) {
			a.next.at, a.next.length = a.index.Find(a.new[scan:], maxFind)
		}
		if a.next.length == maxFind {
			a.next.length += suffix.Common(a.old[a.next.at+maxFind:], a.new[scan+maxFind:])
		}
	}
	return a.next
}

func align(index *suffix.Index, old, new []byte) []match {
	a := aligner{index: index, old: old, new: new, next: found{scan: -1}}
	return a.align()
}

func (a *aligner) align() []match {
	scan, size, at := 0, 0, 0
	for scan < len(a.new) {
		score := 0 // how many of the bytes in new[scan:scan+size] would be right, did the last match go on
		scan += size
		counted := scan
		same := false
		for size = 0; scan < len(a.new); scan++ {
			size = a.run(scan)
			if same = size >= goodRun; same {
				break
			}
			at, size = a.longest(scan)
			for ; counted < scan+size; counted++ {
				if a.goesOn(counted) {
					score++
				}
			}
			if same = size > 0 && score+gain >= size && (size == score || size >= 4*gain); same || size > score+gain {
				break
			}
			if counted > scan && a.goesOn(scan) {
				score--
			}
			counted = max(counted, scan+1)
		}
		if !same || scan >= len(a.new) {
			a.emit(min(scan, len(a.new)), at)
		}
	}
	return a.list
}

// goesOn reports whether new[i] is what it would be, did the last match go on.
func (a *aligner) goesOn(i int) bool {
	o := i + a.displacement
	return o >= 0 && o < len(a.old) && a.old[o] == a.new[i]
}

// run returns how many bytes of new[i:] are what they would be, did the last match go on.
func (a *aligner) run(i int) int {
	if o := i + a.displacement; o >= 0 && o < len(a.old) {
		return suffix.Common(a.old[o:], a.new[i:])
	}
	return 0
}

// emit adds the last match, grown to where most of its bytes are the same; the next one
// begins at new[scan] and old[at], and grows backward.
func (a *aligner) emit(scan, at int) {
	forward := a.grow(scan)
	backward := 0
	if scan < len(a.new) {
		backward = a.growBack(scan, at)
	}
	if over := a.start + forward - (scan - backward); over > 0 {
		keep := a.overlap(scan-backward, at-backward, over)
		forward += keep - over
		backward -= keep
	}
	if forward > 0 {
		a.list = append(a.list, match{a.start, a.from, forward})
	}
	a.start, a.from = scan-backward, at-backward
	a.displacement = at - scan
}

// grow returns how far the last match goes on, at most to new[scan].
func (a *aligner) grow(scan int) (best int) {
	score, bestScore := 0, 0
	for i := 0; a.start+i < scan && a.from+i < len(a.old); {
		if a.old[a.from+i] == a.new[a.start+i] {
			score++
		}
		i++
		if 2*score-i > bestScore {
			best, bestScore = i, 2*score-i
		}
	}
	return best
}

func (a *aligner) growBack(scan, at int) (best int) {
	score, bestScore := 0, 0
	for i := 1; scan-i >= a.start && at-i >= 0; i++ {
		if a.old[at-i] == a.new[scan-i] {
			score++
		}
		if 2*score-i > bestScore {
			best, bestScore = i, 2*score-i
		}
	}
	return best
}

// overlap returns how many of the n bytes of new[start:], which both the last match and
// the next, from old[at:], could have, are better left to the last.
func (a *aligner) overlap(start, at, n int) (best int) {
	score, bestScore := 0, 0
	for i := range n {
		if a.old[a.from+start-a.start+i] == a.new[start+i] {
			score++
		}
		if a.old[at+i] == a.new[start+i] {
			score--
		}
		if score > bestScore {
			best, bestScore = i+1, score
		}
	}
	return best
}
