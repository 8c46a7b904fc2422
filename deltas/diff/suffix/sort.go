package suffix

// MaxSize is the longest text that can be sorted, in bytes.
const MaxSize = 1<<31 - 2

// bitset holds the type of each suffix: true for one that is smaller than the next.
type bitset []uint64

func (b bitset) get(i int32) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitset) set(i int32)      { b[i>>6] |= 1 << (i & 63) }

// leftmost reports whether i is of the smaller type and i-1 is not.
func (b bitset) leftmost(i int32) bool { return i > 0 && b.get(i) && !b.get(i-1) }

// letter is what a text is made of.
type letter interface{ byte | uint16 | int32 }

// Sort returns the offsets of the suffixes of text, of at most MaxSize bytes, in
// ascending order of the suffixes.
func Sort(text []byte) []int32 {
	sa := make([]int32, len(text))
	sort(text, sa, 256)
	return sa
}

// sort fills sa, which is as long as text, whose letters are below letters.
func sort[T letter](text []T, sa []int32, letters int) {
	n := int32(len(text))
	if n < 2 {
		clear(sa)
		return
	}
	types := make(bitset, n>>6+1)
	larger, smaller := make([]int32, letters+1), make([]int32, letters+1)
	classify(text, types, larger, smaller)
	s := sorter[T]{text, sa, types, larger, smaller, make([]int32, letters+1)}

	fill(sa)
	copy(s.at, smaller)
	for i := int32(1); i < n; i++ {
		if types.leftmost(i) {
			s.push(i)
		}
	}
	s.induce()
	count, names := s.name()
	reduced := sa[n-count:]
	if names < count {
		sort(reduced, sa[:count], int(names))
	} else {
		for i, r := range reduced {
			sa[r] = int32(i)
		}
	}
	s.spread(count)
	s.induce()
}

// classify sets the types, and where in the order the suffixes of each first letter
// begin: those of the larger type and behind them those of the smaller.
func classify[T letter](text []T, types bitset, larger, smaller []int32) {
	n := int32(len(text))
	counts := make([]int32, len(larger))
	larger[text[n-1]]++
	counts[text[n-1]]++
	for i := n - 2; i >= 0; i-- {
		counts[text[i]]++
		if text[i] < text[i+1] || text[i] == text[i+1] && types.get(i+1) {
			types.set(i)
		} else {
			larger[text[i]]++
		}
	}
	sum := int32(0)
	for c, all := range counts {
		first := larger[c]
		larger[c], smaller[c] = sum, sum+first
		sum += all
	}
}

func fill(sa []int32) {
	for i := range sa {
		sa[i] = -1
	}
}

type sorter[T letter] struct {
	text            []T
	sa              []int32
	types           bitset
	larger, smaller []int32 // where the suffixes of a letter and type begin in sa
	at              []int32 // the next free place of each letter
}

// push adds the suffix i to those of its letter.
func (s *sorter[T]) push(i int32) {
	c := s.text[i]
	s.sa[s.at[c]] = i
	s.at[c]++
}

// induce sorts all suffixes, given the order of the leftmost smaller ones.
func (s *sorter[T]) induce() {
	n := int32(len(s.text))
	copy(s.at, s.larger)
	s.push(n - 1)
	for i := range s.sa {
		if v := s.sa[i] - 1; v >= 0 && !s.types.get(v) {
			s.push(v)
		}
	}
	copy(s.at, s.larger[1:])
	s.at[len(s.at)-1] = n
	for i := n - 1; i >= 0; i-- {
		if v := s.sa[i] - 1; v >= 0 && s.types.get(v) {
			c := s.text[v]
			s.at[c]--
			s.sa[s.at[c]] = v
		}
	}
}

// name gives each leftmost smaller substring a number by its order. The numbers, in
// order of the text, become the end of sa; name returns how many they are and how many
// different ones.
func (s *sorter[T]) name() (count, names int32) {
	n := int32(len(s.text))
	for _, v := range s.sa {
		if s.types.leftmost(v) {
			s.sa[count] = v
			count++
		}
	}
	fill(s.sa[count:])
	last := int32(-1)
	for i := range count {
		v := s.sa[i]
		if last < 0 || !s.equal(v, last) {
			names++
		}
		last = v
		s.sa[count+v/2] = names - 1
	}
	to := n
	for i := n - 1; i >= count; i-- {
		if s.sa[i] >= 0 {
			to--
			s.sa[to] = s.sa[i]
		}
	}
	return count, names
}

// equal compares two leftmost smaller substrings.
func (s *sorter[T]) equal(a, b int32) bool {
	n := int32(len(s.text))
	for d := int32(0); ; d++ {
		if a+d == n || b+d == n || s.text[a+d] != s.text[b+d] || s.types.get(a+d) != s.types.get(b+d) {
			return false
		}
		if d > 0 && s.types.leftmost(a+d) {
			return true
		}
	}
}

// spread puts the leftmost smaller suffixes, whose order by number is in the first
// count places of sa, to where they stand among all.
func (s *sorter[T]) spread(count int32) {
	n := int32(len(s.text))
	offsets := s.sa[n-count:]
	j := int32(0)
	for i := int32(1); i < n; i++ {
		if s.types.leftmost(i) {
			offsets[j] = i
			j++
		}
	}
	for i := range count {
		s.sa[i] = offsets[s.sa[i]]
	}
	fill(s.sa[count:])
	// From the last on, so that no place is written before it is read.
	copy(s.at, s.larger[1:])
	s.at[len(s.at)-1] = n
	for i := count - 1; i >= 0; i-- {
		v := s.sa[i]
		s.sa[i] = -1
		c := s.text[v]
		s.at[c]--
		s.sa[s.at[c]] = v
	}
}
