package agent

import (
	"encoding/json"
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

// question is what bytes are as a T, or what they hold beside a T.
type question struct {
	beside bool
	t      reflect.Type
	bytes  string
}

type answer struct {
	value any // never changed
	err   error
}

// of returns what work makes of b, a T, or has made of it before.
func (r *Records) of(t reflect.Type, b []byte, work func() (any, error)) (any, error) {
	return r.ask(false, t, b, work)
}

// beside is of for what b holds beside a T.
func (r *Records) beside(t reflect.Type, b []byte, work func() (any, error)) (any, error) {
	return r.ask(true, t, b, work)
}

func (r *Records) ask(beside bool, t reflect.Type, b []byte, work func() (any, error)) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, known := r.made[question{beside, t, string(b)}]; known {
		return a.value, a.err
	}
	q := question{beside, t, string(b)}
	a, known := r.before[q]
	if !known {
		a.value, a.err = work()
	}
	r.put(q, a)
	return a.value, a.err
}

// note remembers what b, which was made of value, will be parsed to, and that it holds
// nothing beside a T.
func (r *Records) note(b []byte, e *envelope, t reflect.Type) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(question{false, reflect.TypeFor[envelope](), string(b)}, answer{value: e})
	if t != nil {
		r.put(question{true, t, string(e.Body)}, answer{value: map[string]json.RawMessage(nil)})
	}
}

// put remembers an answer; mu is held.
func (r *Records) put(q question, a answer) {
	if r.made == nil || len(r.made) >= maxRecords/2 {
		r.made, r.before = map[question]answer{}, r.made
	}
	r.made[q] = a
}

// value is json.Unmarshal of b into to, which is zero.
func (r *Records) value(b []byte, to reflect.Value) error {
	is, err := r.of(to.Type(), b, func() (any, error) {
		p := reflect.New(to.Type())
		return parsed{p.Elem(), flat(to.Type())}, json.Unmarshal(b, p.Interface())
	})
	if err != nil {
		return err
	}
	v := is.(parsed)
	if to.Set(v.is); !v.flat {
		own(to)
	}
	return nil
}

// parsed is a value of whatever type, and whether it points to nothing.
type parsed struct {
	is   reflect.Value
	flat bool
}

// flat reports whether values of a type point to nothing that can be changed.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return false
	case reflect.Array:
		return flat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !flat(f.Type) {
				return false
			}
		}
	}
	return true
}

// directive is release.DecodeDirective. What the directive points to is not to be changed.
func (r *Records) directive(raw []byte) (*release.Directive, error) {
	d, err := r.of(reflect.TypeFor[release.Directive](), raw, func() (any, error) { return release.DecodeDirective(raw) })
	if err != nil {
		return nil, err
	}
	own := *d.(*release.Directive)
	return &own, nil
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
