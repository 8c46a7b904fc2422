package agent

import (
	"reflect"
	"sync"

	"github.com/twinkeel/twinkeel/release"
)

// maxRecords bounds what Records remember: those that were asked for last.
const maxRecords = 512

// Records remember what files of the state directory were parsed to, by their content.
// What a file says is a pure function of its bytes, and most of what an agent reads is
// what it read before: a poll that finds nothing new parses nothing. Several agents may
// share Records. The zero value is ready to use.
type Records struct {
	mu           sync.Mutex
	made, before map[question]answer // before: until made grew too large
}

// question is what bytes are as a T.
type question struct {
	t     reflect.Type
	bytes string
}

type answer struct {
	value any // never changed
	err   error
}

// of returns what work makes of b, a T, or has made of it before.
func (r *Records) of(t reflect.Type, b []byte, work func() (any, error)) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, known := r.made[question{t, string(b)}]; known {
		return a.value, a.err
	}
	q := question{t, string(b)}
	a, known := r.before[q]
	if !known {
		a.value, a.err = work()
	}
	if r.made == nil || len(r.made) >= maxRecords/2 {
		r.made, r.before = map[question]answer{}, r.made
	}
	r.made[q] = a
	return a.value, a.err
}

// manifest is release.DecodeManifest. What the manifest points to is not to be changed.
func (r *Records) manifest(raw []byte) (*release.Manifest, error) {
	m, err := r.of(reflect.TypeFor[release.Manifest](), raw, func() (any, error) { return release.DecodeManifest(raw) })
	if err != nil {
		return nil, err
	}
	own := *m.(*release.Manifest)
	return &own, nil
}

// own gives v, a copy of a value, its own copy of all that it points to.
func own(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(v.Elem())
			own(p.Elem())
			v.Set(p)
		}
	case reflect.Slice:
		if !v.IsNil() {
			s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(s, v)
			for i := range s.Len() {
				own(s.Index(i))
			}
			v.Set(s)
		}
	case reflect.Map:
		if !v.IsNil() {
			m := reflect.MakeMapWithSize(v.Type(), v.Len())
			for _, k := range v.MapKeys() {
				x := reflect.New(v.Type().Elem()).Elem()
				x.Set(v.MapIndex(k))
				own(x)
				m.SetMapIndex(k, x)
			}
			v.Set(m)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				own(f)
			}
		}
	}
}
