package main

import (
	_ "embed"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/goreleaser/nfpm/v2"
)

// The maintainer scripts, of which each package has its own, by what it brings.
var (
	//go:embed debian/postinst
	postinst string
	//go:embed debian/prerm
	prerm string
	//go:embed debian/postrm
	postrm string
)

// scripts gives info the maintainer scripts of p, if it needs some.
func (t tree) scripts(p pkg, info *nfpm.Info) error {
	if len(p.services) == 0 {
		return nil
	}
	for _, s := range []struct {
		name, text string
		into       *string
	}{
		{"postinst", postinst, &info.Scripts.PostInstall},
		{"prerm", prerm, &info.Scripts.PreRemove},
		{"postrm", postrm, &info.Scripts.PostRemove},
	} {
		parsed, err := template.New(s.name).Parse(s.text)
		if err != nil {
			return err
		}
		var b strings.Builder
		if err := parsed.Execute(&b, map[string]string{"Name": p.name, "Units": strings.Join(p.services, " ")}); err != nil {
			return err
		}
		*s.into = filepath.Join(t.work, p.name+"."+s.name)
		if err := write(*s.into, []byte(b.String())); err != nil {
			return err
		}
	}
	return nil
}
