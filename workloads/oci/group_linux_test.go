package oci

import (
	"slices"
	"strings"
	"testing"
)

func TestAShimLeavesEveryGroupThatItCameFrom(t *testing.T) {
	const old = "blkio cpu,cpuacct freezer systemd unified"
	for _, c := range []struct{ name, roots, text, want string }{
		{"a service of systemd", old, "4:blkio:/\n3:cpu,cpuacct:/system.slice/x.service\n2:freezer:/\n1:name=systemd:/system.slice/x.service\n0::/system.slice/x.service\n", "cpu,cpuacct systemd unified"},
		{"in no group", old, "4:blkio:/\n3:cpu,cpuacct:/\n2:freezer:/\n1:name=systemd:/\n0::/\n", "systemd"},
		{"in no group, without systemd", "blkio freezer", "4:blkio:/\n2:freezer:/\n", "blkio"},
		{"mounted by another name", "blkio processors", "4:blkio:/\n3:cpu,cpuacct:/\n", "processors"},
		{"a name with colons", "blkio freezer", "4:blkio:/\n2:freezer:/a:b\n", "freezer"},
		{"version 2 alone", "cgroup", "0::/system.slice/x.service\n", "cgroup"},
		{"version 2 alone, in no group", "cgroup", "0::/\n", "cgroup"},
		{"nothing is known", "blkio freezer", "", "blkio freezer"},
		{"no hierarchy", "", "0::/\n", ""},
	} {
		var roots []string
		for name := range strings.FieldsSeq(c.roots) {
			roots = append(roots, groups+"/"+name)
		}
		var got []string
		for _, r := range toJoin(roots, []byte(c.text)) {
			got = append(got, strings.TrimPrefix(r, groups+"/"))
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}
