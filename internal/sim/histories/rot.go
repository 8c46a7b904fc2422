package histories

import (
	"bytes"
	"slices"
	"strings"
)

// rotState spoils one file of the state directory. Two of one kind at once would be more
// than anybody promises: of what is kept twice, neither rots while they are not alike.
func (l *life) rotState(arg uint64) {
	dir := l.m.State
	names := dir.Names()
	trust, apps := dir.Below("trust"), dir.Below("apps")
	switch which := arg >> 40 % 4; {
	case which == 0 && trust != nil:
		// Metadata can be fetched again; floors are kept twice, and one of them is whole.
		dir, names = trust, slices.DeleteFunc(trust.Names(), func(n string) bool { return !strings.HasSuffix(n, ".json") })
	case which == 1 && apps != nil:
		dir, names = apps, apps.Names()
	}
	if len(names) == 0 {
		return
	}
	name := names[arg%uint64(len(names))]
	if hot := [...]string{"journal.json", "denials.json"}[arg>>44%2]; l.cut && arg>>48%2 == 0 && slices.Contains(names, hot) {
		name = hot // what is written most is hit most
	}
	b := slices.Clone(dir.Bytes(name))
	if len(b) == 0 {
		return
	}
	switch i := slices.Index(names, twin(name)); {
	case i >= 0 && !bytes.Equal(dir.Bytes(names[i]), b):
		return
	case i < 0 && name == "choices.json":
		return // the power went between its first copy and its second one: it is not kept twice yet
	}
	switch (arg >> 16) % 3 {
	case 0:
		b[(arg>>24)%uint64(len(b))] ^= 1 << ((arg >> 20) % 8)
	case 1:
		b = b[:(arg>>24)%uint64(len(b))]
	default:
		clear(b)
	}
	if dir.Damage(name, b); dir == l.m.State {
		l.m.Forget(name)
	}
}

// twin is the name of the other one of a file that is kept twice.
func twin(name string) string {
	if first, is := strings.CutSuffix(name, ".copy.json"); is {
		return first + ".json"
	}
	return strings.TrimSuffix(name, ".json") + ".copy.json"
}
