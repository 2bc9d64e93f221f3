//go:build !linux

package measure

func (m *Machine) inspect(string) error { return nil }
