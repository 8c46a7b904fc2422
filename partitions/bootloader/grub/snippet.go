package grub

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

// Layout says where GRUB finds things. Paths are GRUB's own: "(hd0,gpt3)/twinkeel", or
// "($root)/twinkeel", with no character that its shell could take for more than a path.
type Layout struct {
	Dir     string    // directory of the environment blocks
	Boot    [2]string // root of each slot's boot file system
	Kernel  string    // path of the kernel below Boot, such as "/vmlinuz"
	Initrd  string    // path of the initrd below Boot
	Cmdline string    // what follows on the kernel's command line
}

//go:embed snippet.cfg
var snippetText string

// The characters of a path and of a command line that GRUB's shell takes as they are,
// and of names of variables.
var (
	pathForm    = regexp.MustCompile(`^[A-Za-z0-9_.,:=/@%+()${}-]+$`)
	cmdlineForm = regexp.MustCompile(`^[A-Za-z0-9_.,:=/@%+ ${}-]*$`)
)

// Snippet returns the script that chooses a slot, counts its trial and starts it, to be
// read by GRUB from grub.cfg or instead of it. It needs GRUB 2.02 or newer with the
// modules loadenv, test, linux, echo, sleep and reboot, and those for disk and file
// systems. Every kernel gets panic=1, without which a trial that panics hangs for ever.
func Snippet(l Layout) (string, error) {
	for _, p := range []struct{ what, value string }{
		{"directory of the environment blocks", l.Dir}, {"boot file system of slot a", l.Boot[0]},
		{"boot file system of slot b", l.Boot[1]}, {"kernel", l.Kernel}, {"initrd", l.Initrd},
	} {
		if !pathForm.MatchString(p.value) {
			return "", fmt.Errorf("GRUB script: %s: %.80q: want a path of plain characters", p.what, p.value)
		}
	}
	if !cmdlineForm.MatchString(l.Cmdline) {
		return "", fmt.Errorf("GRUB script: command line %.200q: want plain characters", l.Cmdline)
	}
	if l.Boot[0] == l.Boot[1] {
		return "", fmt.Errorf("GRUB script: both slots boot from %s", l.Boot[0])
	}
	t, err := template.New("snippet").Parse(snippetText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Layout": l, "Record": fileRecord, "Copy": fileCopy,
		"LoaderVars": loaderVars(), "DescriptionVars": descriptionVars(),
	})
	return b.String(), err
}
