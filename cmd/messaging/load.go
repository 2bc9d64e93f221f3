package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// errConfig marks errors that only the operator can fix. Their exit status is 2.
var errConfig = errors.New("configuration")

// value is the text of a setting and its source. name is the setting's name in that
// source, and place names the source in errors, if the name does not.
type value struct {
	text, source string
	name, place  string
}

// described returns the name of a value for an error, as the operator wrote it. It includes
// the text, unless that is a secret.
func (v value) described(s *setting) string {
	if s.secret {
		return v.name + v.place
	}
	return v.quoted(s.shown(v.text))
}

func (v value) quoted(text string) string {
	return v.name + " " + strconv.Quote(shorten(text, 100)) + v.place
}

// load reads every setting from flags, the environment and one file, in this order of
// precedence. flags holds those that were given.
func load(flags map[string]string, configFile string, getenv func(string) (string, bool)) (Config, map[string]value, error) {
	var c Config
	values, err := gather(flags, configFile, getenv)
	if err != nil {
		return c, nil, err
	}
	if err := c.read(values); err != nil {
		return c, nil, err
	}
	return c, values, c.check()
}

func gather(flags map[string]string, configFile string, getenv func(string) (string, bool)) (map[string]value, error) {
	from, err := newSources(flags, configFile, getenv)
	if err != nil {
		return nil, err
	}
	values := make(map[string]value)
	if err := from.add(values, func(*setting) bool { return true }); err != nil {
		return nil, err
	}
	return values, from.addURL(values)
}

// keyURLDefault names the settings that the default address of the service is built from.
const keyURLDefault = "HTTP_ADDR and HTTP_PORT"

// fromDefault is the source of a value that is not set.
const fromDefault = "default"

// sources holds all sources of settings.
type sources struct {
	flags  map[string]string
	getenv func(string) (string, bool)
	path   string // of the file; empty without one
	file   map[string]string
}

func newSources(flags map[string]string, path string, getenv func(string) (string, bool)) (*sources, error) {
	if path == "" {
		path, _ = getenv("MESSAGING_CONFIG")
	}
	file, err := readFile(path)
	return &sources{flags: flags, getenv: getenv, path: path, file: file}, err
}

// value returns the value of a setting, in the order of precedence.
func (from *sources) value(s *setting) (value, error) {
	if text, ok := from.flags[s.flag()]; ok {
		return value{text: text, source: "flag --" + s.flag(), name: "--" + s.flag()}, nil
	}
	v, err := from.environment(s)
	if err != nil || v.source != "" {
		return v, err
	}
	if text, ok := from.file[s.key]; ok {
		return value{text: text, source: "file " + from.path, name: s.key, place: " in the file " + from.path}, nil
	}
	return value{text: s.fallback, source: fromDefault, name: s.env()}, nil
}

// environment looks a setting up under all its names. An empty variable counts as not
// set.
func (from *sources) environment(s *setting) (value, error) {
	for _, name := range s.environment() {
		if text, ok := from.getenv(name); ok && text != "" {
			return value{text: text, source: "environment " + name, name: name}, nil
		}
		if !s.secret {
			continue
		}
		if path, ok := from.getenv(name + "_FILE"); ok && path != "" {
			secret, err := readSecret(name+"_FILE", path)
			if err != nil {
				return value{}, err
			}
			return value{text: secret, source: "file of " + name + "_FILE", name: "the file of " + name + "_FILE"}, nil
		}
	}
	return value{}, nil
}

// maxSecret bounds the size of a file with a secret.
const maxSecret = 1 << 20

// readSecret reads a file that contains only a secret. An empty one is refused: the
// operator wanted a secret.
func readSecret(setting, path string) (string, error) {
	text, err := readPrivate(setting, path, maxSecret)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", usagef("%s %q is empty: put the secret into it, or unset %s", setting, path, setting)
	}
	return secret, nil
}

// add adds the values of the wanted settings.
func (from *sources) add(values map[string]value, wanted func(s *setting) bool) (err error) {
	for i := range settings {
		s := &settings[i]
		if !wanted(s) {
			continue
		}
		if values[s.key], err = from.value(s); err != nil {
			return err
		}
	}
	return nil
}

// addURL sets the address of the service, if it is not set, to the address on which the
// service of this machine listens.
func (from *sources) addURL(values map[string]value) error {
	if values[keyURL].source != fromDefault {
		return nil
	}
	err := from.add(values, func(s *setting) bool { return s.key == keyAddr || s.key == keyPort || s.key == keyTLSCert })
	addr, port := values[keyAddr], values[keyPort]
	scheme := "http://"
	if values[keyTLSCert].text != "" {
		scheme = "https://"
	}
	if ip, err := netip.ParseAddr(addr.text); addr.text == "" || (err == nil && ip.IsUnspecified()) {
		addr.text = "127.0.0.1"
	}
	v := value{text: scheme + net.JoinHostPort(addr.text, port.text), source: fromDefault, name: keyURLDefault}
	if addr.source != fromDefault || port.source != fromDefault {
		v.source = keyURLDefault
	}
	values[keyURL] = v
	return err
}

// loadClient reads only the settings that the command line needs to call a service. It
// does not need access to the service's own secrets.
func loadClient(flags map[string]string, getenv func(string) (string, bool)) (c Config, err error) {
	from, err := newSources(flags, "", getenv)
	if err != nil {
		return c, err
	}
	values := make(map[string]value)
	if err := from.add(values, func(s *setting) bool { return s.client }); err != nil {
		return c, err
	}
	if err := from.addURL(values); err != nil {
		return c, err
	}
	err = c.read(values)
	if values[keyURL].name != keyURLDefault {
		c.Access.TLSCert = "" // of another service
	}
	return c, err
}

// read sets the fields that have values.
func (c *Config) read(values map[string]value) error {
	for i := range settings {
		s := &settings[i]
		v, ok := values[s.key]
		if !ok {
			continue
		}
		if err := s.set(c, v.text); err != nil {
			return usagef("%s %s", v.described(s), err.Error())
		}
	}
	return nil
}

// readFile reads a configuration file, YAML or TOML. It refuses unknown keys.
func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	var parser koanf.Parser
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		parser = yaml.Parser()
	case ".toml":
		parser = toml.Parser()
	default:
		return nil, usagef("the configuration file %s must end in .yaml, .yml or .toml", path)
	}
	if info, err := os.Stat(path); err == nil && info.Mode()&othersWrite != 0 {
		return nil, usagef("the configuration file %s can be written by every user of this machine: chmod o-w it", path)
	}
	k := koanf.New("\x00")
	if err := k.Load(file.Provider(path), parser); err != nil {
		return nil, configFileFault(path, err)
	}
	values := make(map[string]string)
	for key, raw := range k.Raw() {
		if !isSetting(key) {
			return nil, usagef("the configuration file %s has the unknown key %q%s", path, key, didYouMean(key, settingKeys()))
		}
		text, ok := scalar(raw)
		if !ok {
			return nil, usagef("%s in the file %s must be one value or a list of values", key, path)
		}
		values[key] = text
	}
	return values, nil
}

// configFileFault returns an error that states why a configuration file cannot be used: it
// cannot be read, or is not in the format of its extension.
func configFileFault(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return usagef("the configuration file %s cannot be read: %s (see --config and MESSAGING_CONFIG)", path, fileFault(err))
	}
	form := strings.ToUpper(strings.TrimPrefix(filepath.Ext(path), "."))
	if form == "YML" {
		form = "YAML"
	}
	_, fault, _ := strings.Cut(err.Error(), ": ") // without the name of the library
	return usagef("the configuration file %s is not %s: %s", path, form, fault)
}

// settingKeys returns the keys that a configuration file may have.
func settingKeys() []string {
	keys := make([]string, len(settings))
	for i := range settings {
		keys[i] = settings[i].key
	}
	return keys
}

func isSetting(key string) bool { return slices.Contains(settingKeys(), key) }

// scalar returns the text of a value in a file. The items of a list are joined with
// commas.
func scalar(raw any) (string, bool) {
	switch v := raw.(type) {
	case nil:
		return "", true
	case map[string]any:
		return "", false
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			text, ok := scalar(item)
			if !ok {
				return "", false
			}
			items[i] = text
		}
		return strings.Join(items, ","), true
	}
	return fmt.Sprint(raw), true
}
