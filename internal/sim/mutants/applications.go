package mutants

// applications are bugs in the transaction of applications, and in what trials of the OS do
// for them.
func applications() []Mutant {
	return []Mutant{
		{Name: "cloned-while-it-runs", File: "agent/app_next.go",
			Before: "\t\treturn AppMarkReverting\n\tcase !o.Quiet:\n\t\treturn AppStop\n\tcase o.Beside && !o.Running:",
			After:  "\t\treturn AppMarkReverting\n\tcase !o.Quiet && !planted(\"cloned-while-it-runs\"):\n\t\treturn AppStop\n\tcase o.Beside && !o.Running:"},
		{Name: "app-pointer-before-journal", File: "agent/app_switch.go",
			Before: "\tt.Phase = AppSwitching\n\ta.forgetVerdict()\n",
			After:  "\tif planted(\"app-pointer-before-journal\") {\n\t\tif err := a.flipApps(t); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tt.Phase = AppSwitching\n\ta.forgetVerdict()\n"},
		{Name: "app-pointer-not-turned-back", File: "agent/app_next.go",
			Before: "\tcase o.Flipped:\n\t\t// The pointer first",
			After:  "\tcase o.Flipped && !planted(\"app-pointer-not-turned-back\"):\n\t\t// The pointer first"},
		{Name: "parked-dropped-at-once", File: "agent/app_finish.go",
			Before: "\tused, err := a.usedGenerations(t)\n\tif err != nil {\n\t\ta.log.Warn(\"parked data",
			After:  "\tif planted(\"parked-dropped-at-once\") {\n\t\tkeep = 0\n\t}\n\tused, err := a.usedGenerations(t)\n\tif err != nil {\n\t\ta.log.Warn(\"parked data"},
		{Name: "app-denial-lost", File: "agent/app_finish.go",
			Before: "\t\tif v.Code == CodeUnhealthy || v.Code == CodeByHand || lost {",
			After:  "\t\tif (v.Code == CodeUnhealthy || v.Code == CodeByHand || lost) && !planted(\"app-denial-lost\") {"},
		{Name: "app-boots-not-counted", File: "agent/app_boots.go",
			Before: "t.Boots.Count, t.Boots.Last = t.Boots.Count+1, m.boot.ID\n",
			After:  "t.Boots.Count, t.Boots.Last = t.Boots.Count+1, m.boot.ID\n\tif planted(\"app-boots-not-counted\") {\n\t\tt.Boots.Count = 0\n\t}\n"},
	}
}
