package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// errConfig marks what only the operator can mend; its exit status is 2.
var errConfig = errors.New("configuration")

// value is a setting's text and where it came from.
type value struct {
	text, source string
}

// load gathers every setting from flags, the environment and one file, in this
// order of precedence, and reads them. flags holds those that were given.
func load(flags map[string]string, configFile string, getenv func(string) (string, bool)) (Config, map[string]value, error) {
	var c Config
	values, err := gather(flags, configFile, getenv)
	if err != nil {
		return c, nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	for i := range settings {
		s := &settings[i]
		v := values[s.key]
		if err := s.set(&c, v.text); err != nil {
			return c, nil, fmt.Errorf("%w: %s (from %s) %w", errConfig, s.env(), v.source, err)
		}
	}
	if err := c.check(); err != nil {
		return c, nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return c, values, nil
}

func gather(flags map[string]string, configFile string, getenv func(string) (string, bool)) (map[string]value, error) {
	if configFile == "" {
		configFile, _ = getenv("MESSAGING_CONFIG")
	}
	fromFile, err := readFile(configFile)
	if err != nil {
		return nil, err
	}
	values := make(map[string]value)
	for i := range settings {
		s := &settings[i]
		values[s.key] = value{s.fallback, "default"}
		if text, ok := fromFile[s.key]; ok {
			values[s.key] = value{text, "file " + configFile}
		}
		v, err := fromEnvironment(s, getenv)
		if err != nil {
			return nil, err
		}
		if v.source != "" {
			values[s.key] = v
		}
		if text, ok := flags[s.flag()]; ok {
			values[s.key] = value{text, "flag --" + s.flag()}
		}
	}
	return values, nil
}

// fromEnvironment looks a setting up under all of its names. The longer name
// wins: the short one may be somebody else's (Kubernetes sets HTTP_PORT in
// every container beside a service named http). An empty variable is not set.
func fromEnvironment(s *setting, getenv func(string) (string, bool)) (value, error) {
	names := []string{"MESSAGING_" + s.env(), s.env()}
	if s.also != "" {
		names = append(names, s.also)
	}
	for _, name := range names {
		if text, ok := getenv(name); ok && text != "" {
			return value{text, "environment " + name}, nil
		}
		if !s.secret {
			continue
		}
		if path, ok := getenv(name + "_FILE"); ok && path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return value{}, fmt.Errorf("%s_FILE cannot be read: %w", name, err)
			}
			return value{strings.TrimSpace(string(text)), "file of " + name + "_FILE"}, nil
		}
	}
	return value{}, nil
}

// readFile reads a configuration file, YAML or TOML, and refuses keys that are
// no settings.
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
		return nil, fmt.Errorf("the file %s must end in .yaml, .yml or .toml", path)
	}
	k := koanf.New("\x00")
	if err := k.Load(file.Provider(path), parser); err != nil {
		return nil, fmt.Errorf("the file %s cannot be read: %w", path, err)
	}
	values := make(map[string]string)
	for key, raw := range k.Raw() {
		if !isSetting(key) {
			return nil, fmt.Errorf("the file %s has the unknown key %q", path, key)
		}
		text, ok := scalar(raw)
		if !ok {
			return nil, fmt.Errorf("the file %s: %s must be one value or a list of values", path, key)
		}
		values[key] = text
	}
	return values, nil
}

func isSetting(key string) bool {
	for i := range settings {
		if settings[i].key == key {
			return true
		}
	}
	return false
}

// scalar gives the text of a value in a file; a list becomes its items with
// commas between them.
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
