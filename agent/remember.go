package agent

import (
	"encoding/json"
	"maps"
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
	r.put(q, a)
	return a.value, a.err
}

// put remembers an answer; mu is held.
func (r *Records) put(q question, a answer) {
	if r.made == nil || len(r.made) >= maxRecords/2 {
		r.made, r.before = map[question]answer{}, r.made
	}
	r.made[q] = a
}

// file is a record that is whole, and what is known of its body; the mutex of Records
// guards that.
type file struct {
	*envelope
	as      []parsed
	unknown []foreign
}

// parsed is the body as a T.
type parsed struct {
	is   reflect.Value
	deep []int // the fields of is that point to something
	err  error
}

// foreign are the top-level fields of the body that a T does not have, never changed.
type foreign struct {
	t      reflect.Type
	fields map[string]json.RawMessage
}

// file returns the record that b holds.
func (r *Records) file(b []byte) (*file, error) {
	f, err := r.of(reflect.TypeFor[file](), b, func() (any, error) {
		e, err := open(b)
		return &file{envelope: e}, err
	})
	return f.(*file), err
}

// wrote remembers that b holds e, whose body was made of a T and of nothing else if t is not
// nil. What b is parsed to, parsing it says.
func (r *Records) wrote(b []byte, e *envelope, t reflect.Type) {
	f := &file{envelope: e}
	if t != nil {
		f.unknown = []foreign{{t: t}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(question{reflect.TypeFor[file](), string(b)}, answer{value: f})
}

// parse is json.Unmarshal of f's body into to, which is zero.
func (r *Records) parse(f *file, to reflect.Value) error {
	p := r.parsed(f, to.Type())
	if p.err != nil {
		return p.err
	}
	to.Set(p.is)
	for _, i := range p.deep {
		own(to.Field(i))
	}
	return nil
}

func (r *Records) parsed(f *file, t reflect.Type) parsed {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range f.as {
		if p.is.Type() == t {
			return p
		}
	}
	v := reflect.New(t)
	p := parsed{is: v.Elem(), err: json.Unmarshal(f.Body, v.Interface())}
	for i := range t.NumField() {
		if field := t.Field(i); field.IsExported() && !flat(field.Type) {
			p.deep = append(p.deep, i)
		}
	}
	f.as = append(f.as, p)
	return p
}

// flat reports whether values of a type point to nothing that can be changed.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return false
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !flat(f.Type) {
				return false
			}
		}
	}
	return true
}

// beside returns the top-level fields of f's body that a T does not have.
func (r *Records) beside(f *file, t reflect.Type) map[string]json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range f.unknown {
		if u.t == t {
			return u.fields
		}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(f.Body, &fields) != nil {
		fields = nil // what cannot be parsed has none
	}
	known := jsonFields(t)
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool { return known[name] })
	f.unknown = append(f.unknown, foreign{t, fields})
	return fields
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

// app is release.DecodeAppManifest, and the manifest's digest. What the manifest points to is
// not to be changed.
func (r *Records) app(raw []byte) (*release.AppManifest, release.Digest, error) {
	type parsed struct {
		manifest *release.AppManifest
		digest   release.Digest
	}
	p, err := r.of(reflect.TypeFor[release.AppManifest](), raw, func() (any, error) {
		m, err := release.DecodeAppManifest(raw)
		if err != nil {
			return parsed{}, err
		}
		digest, err := m.Digest()
		return parsed{m, digest}, err
	})
	if err != nil {
		return nil, release.Digest{}, err
	}
	own := *p.(parsed).manifest
	return &own, p.(parsed).digest, nil
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
