#![allow(clippy::unwrap_used)]

use super::*;

const CONTAINER: &str = r#"{
  "Id": "4c01db0b339cafe", "Name": "/web", "Created": "2026-01-02T03:04:05Z",
  "State": {"Status": "running", "Running": true, "Pid": 4711, "ExitCode": 0, "Health": null},
  "Config": {"Env": ["A=1", "B=2"], "Cmd": null, "Labels": {"com.example.a": "x", "b": "y"}},
  "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": "10.0.0.2"}},
                      "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null}},
  "Mounts": []
}"#;

fn render(template: &str) -> Result<String, String> {
    let value = Value::parse(CONTAINER.as_bytes()).unwrap();
    let labels = Value::parse(br#"{"com.example.a":"x"}"#).unwrap();
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    template.render(&value, Some(&labels)).map_err(|error| error.to_string())
}

fn check(template: &str, expected: &str) {
    assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
}

fn fails(template: &str, expected: &str) {
    assert_eq!(render(template), Err(expected.to_owned()), "{template}");
}

#[test]
fn fields_and_literals() {
    check("plain", "plain");
    check("", "");
    check("{{.Name}}", "/web");
    check("{{.State.Status}}: {{.State.Pid}}", "running: 4711");
    check("{{ .State.Running }}", "true");
    check("{{.ID}}", "4c01db0b339cafe");
    check("{{.Id}}", "4c01db0b339cafe");
    check("{{.State.Health}}", "<no value>");
    check("{{.Config.Env}}", "[A=1 B=2]");
    check("{{.Config.Labels}}", "map[b:y com.example.a:x]");
    check("{{\"q\\\"uoted\\t\"}}", "q\"uoted\t");
    check("{{`raw \\n`}}", "raw \\n");
    check("{{12}} {{-3}} {{0x10}} {{1.5}} {{'a'}}", "12 -3 16 1.5 97");
    check("日本{{.Name}}語", "日本/web語");
    check("{{\"日本\"}}", "日本");
    check("a } b }} c", "a } b }} c");
    check("{{\"}}\"}}", "}}");
}

#[test]
fn trimming_and_comments() {
    check("a  {{- 1 -}}  b", "a1b");
    check("a {{- /* gone */ -}} b", "ab");
    check("a{{/* }} gone */}}b", "ab");
    check("x \n{{- .Name}}", "x/web");
    check("{{-3}}", "-3");
}

#[test]
fn json_of_parts_keeps_the_wire_order() {
    check("{{json .State.Pid}}", "4711");
    check("{{json .Config.Env}}", r#"["A=1","B=2"]"#);
    check("{{json .Config.Cmd}}", "null");
    check("{{json .Mounts}}", "[]");
    check("{{.Config.Labels | json}}", r#"{"com.example.a":"x","b":"y"}"#);
}

#[test]
fn index_and_len() {
    check("{{index .Config.Env 1}}", "B=2");
    check("{{index .Config.Labels \"com.example.a\"}}", "x");
    check("{{index .Config.Labels \"nope\"}}", "");
    check("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080");
    check("{{(index .NetworkSettings.Ports \"80/tcp\" 0).HostPort}}", "8080");
    check("{{len .Config.Env}} {{len .Name}} {{len .Mounts}} {{len .Config.Cmd}}", "2 4 0 0");
    check("{{slice .Id 0 12}}", "4c01db0b339c");
    check("{{slice .Config.Env 1}}", "[B=2]");
    fails(
        "{{index .Config.Env 7}}",
        "template: :1:2: executing \"\" at <index>: error calling index: index out of range: 7",
    );
}

#[test]
fn conditions() {
    check("{{if .State.Running}}up{{else}}down{{end}}", "up");
    check("{{if .Mounts}}m{{else if .Config.Env}}e{{else}}n{{end}}", "e");
    check("{{if .State.ExitCode}}bad{{end}}", "");
    check("{{if eq .State.Status \"running\"}}yes{{end}}", "yes");
    check("{{if eq .State.Status \"a\" \"running\"}}yes{{end}}", "yes");
    check("{{if ne .State.Pid 1}}yes{{end}}", "yes");
    check("{{if and .State.Running (gt .State.Pid 4000)}}yes{{end}}", "yes");
    check("{{if or .Mounts .Config.Cmd}}a{{else}}b{{end}}", "b");
    check("{{if not .Mounts}}none{{end}}", "none");
    check("{{lt 1 2}} {{le 2 2}} {{ge 1 2}} {{lt \"a\" \"b\"}}", "true true false true");
    check("{{or .Config.Cmd \"none\"}}", "none");
    check("{{with .State}}{{.Status}}{{end}}", "running");
    check("{{with .Config.Cmd}}x{{else}}no cmd{{end}}", "no cmd");
    check("{{with $x := .Name}}{{$x}}{{end}}", "/web");
    fails(
        "{{if eq .Name 1}}{{end}}",
        "template: :1:5: executing \"\" at <eq>: error calling eq: incompatible types for comparison",
    );
}

#[test]
fn loops_and_variables() {
    check("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;");
    check("{{range $i, $e := .Config.Env}}{{$i}}:{{$e}} {{end}}", "0:A=1 1:B=2 ");
    check(
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}",
        "bridge=172.17.0.2 other=10.0.0.2 ",
    );
    check("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "172.17.0.210.0.0.2");
    check(
        "{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{with $conf}}{{(index . 0).HostPort}}{{end}} {{end}}",
        "443/tcp ->  80/tcp -> 8080 ",
    );
    check("{{range .Mounts}}x{{else}}empty{{end}}", "empty");
    check("{{range .Config.Env}}{{$.Name}} {{end}}", "/web /web ");
    check("{{range .Config.Env}}{{.}}{{break}}{{end}}", "A=1");
    check("{{range $i, $e := .Config.Env}}{{if eq $i 0}}{{continue}}{{end}}{{$e}}{{end}}", "B=2");
    check("{{$n := .Name}}{{$n}}{{$n = \"x\"}}{{$n}}", "/webx");
    check("{{$n := 1}}{{range .Config.Env}}{{$n = .}}{{end}}{{$n}}", "B=2");
}

#[test]
fn functions() {
    check("{{join .Config.Env \",\"}}", "A=1,B=2");
    check("{{.Config.Env | len | printf \"%03d\"}}", "002");
    check("{{upper .Name}} {{lower \"ABC\"}} {{title \"hello there\"}}", "/WEB abc Hello There");
    check("{{split \"a:b:c\" \":\"}}", "[a b c]");
    check("{{truncate .Id 4}}", "4c01");
    check("{{pad .Name 1 2}}|", " /web  |");
    check(
        "{{printf \"%s %q %v %d %x %t %5.2f|%-6s|%6s|%%\" .Name .Name .State.Pid 7 255 true 1.5 \"ab\" \"ab\"}}",
        "/web \"/web\" 4711 7 ff true  1.50|ab    |    ab|%",
    );
    check("{{printf \"%d\" .Name}}", "%!d(string=/web)");
    check("{{printf \"%s\"}}", "%!s(MISSING)");
    check("{{printf \"x\" 1}}", "x%!(EXTRA int=1)");
    check("{{println .Name 1}}", "/web 1\n");
    check("{{print 1 2 \"a\" 3}}", "1 2a3");
    check("{{.Label \"com.example.a\"}}|{{.Label \"nope\"}}|", "x||");
    check("{{.Name | printf \"%s-%s\" \"a\" | upper}}", "A-/WEB");
}

#[test]
fn errors_say_where() {
    fails("{{.Name", "template: :1:0: unclosed action");
    fails("ab\n {{.Name", "template: :2:1: unclosed action");
    fails("{{nope .Name}}", "template: :1:2: function \"nope\" not defined");
    fails("{{.Nope}}", "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"");
    fails("{{.State.Nope}}", "template: :1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\"");
    fails(
        "{{.State.Health.Status}}",
        "template: :1:15: executing \"\" at <.State.Health.Status>: nil pointer evaluating interface {}.Status",
    );
    fails("{{.Name.X}}", "template: :1:7: executing \"\" at <.Name.X>: can't evaluate field X in a string");
    fails("{{if .Name}}x", "template: :1:2: unexpected EOF: {{if}} has no {{end}}");
    fails("{{end}}", "template: :1:2: unexpected {{end}}");
    fails("{{}}", "template: :1:2: missing value for command");
    fails("{{.Name | }}", "template: :1:10: missing value for command");
    fails("{{\"abc}}", "template: :1:0: unclosed action");
    fails("{{(.Name}}", "template: :1:2: unclosed left paren");
    fails("{{.Name)}}", "template: :1:7: unexpected right paren in command");
    fails("{{.Name 1}}", "template: :1:2: can't give argument to non-function .Name");
    fails("{{$x}}", "template: :1:2: undefined variable \"$x\"");
    fails("{{break}}", "template: :1:2: {{break}} outside {{range}}");
    fails("{{.A ! }}", "template: :1:5: unexpected '!' in command");
    assert!(render(&"{{if 1}}".repeat(5000)).is_err());
    assert!(render(&format!("{{{{{}}}}}", "(".repeat(5000))).is_err());
}

#[test]
fn what_the_wire_leaves_out_is_zero() {
    let value = Value::parse(
        br#"{"State":{},"Config":{"Entrypoint":null,"Labels":null,"Cmd":["a"]},"HostConfig":{"PidsLimit":null}}"#,
    )
    .unwrap();
    let check = |template: &str, expected: &str| {
        assert_eq!(Template::parse(template).unwrap().render_object(&value).as_deref(), Ok(expected), "{template}");
    };
    check("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none");
    check("{{with .State.Health}}{{.Status}}{{end}}", "");
    check(
        "{{.State.Health}} {{.Config.Entrypoint}} {{.Config.Labels}} {{.HostConfig.PidsLimit}}",
        "<nil> [] map[] <nil>",
    );
    check("{{json .Config.Entrypoint}} {{len .Config.Labels}} {{.Config.StopSignal}}", "null 0 ");
    let wrong = Template::parse("{{.State.Health.Status}}").unwrap().render_object(&value).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "template: :1:15: executing \"\" at <.State.Health.Status>: nil pointer evaluating interface {}.Status"
    );
}

#[test]
fn text_is_escaped_for_where_it_goes() {
    check(r#"{{html "<a> &\"'"}}"#, "&lt;a&gt; &amp;&#34;&#39;");
    check(r#"{{urlquery "a b&c/ü"}}"#, "a+b%26c%2F%C3%BC");
    check(r#"{{js "a'\"<b>&=\n\\ü"}}"#, r#"a\'\"\u003Cb\u003E\u0026\u003D\u000A\\ü"#);
    check("{{html nil}} {{.Name | urlquery}} {{html 1 \"x\" 2}}", "&lt;no value&gt; %2Fweb 1x2");
    assert!(render("{{html}}").is_err());
}

#[test]
fn nothing_is_there_to_be_called() {
    fails(
        "{{call .Name}}",
        "template: :1:2: executing \"\" at <call>: error calling call: non-function .Name of type string",
    );
    fails("{{call nil}}", "template: :1:2: executing \"\" at <call>: error calling call: call of nil");
    assert!(render("{{call}}").unwrap_err().contains("wrong number of args"));
}

#[test]
fn templates_call_templates() {
    check("{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .Name}}", "[/web]");
    check("{{template \"x\" .State}}{{define \"x\"}}{{.Pid}}{{$.Status}}{{end}}", "4711running");
    check("{{block \"b\" .Name}}<{{.}}>{{end}}{{template \"b\" 1}}", "</web><1>");
    check("{{range .Config.Env}}{{template \"x\" .}}{{end}}{{define \"x\"}}{{.}};{{end}}", "A=1;B=2;");
    check("{{$a := 1}}{{define \"x\"}}{{$a := 2}}{{end}}{{template \"x\"}}{{$a}}", "1");
    check("{{define \"x\"}}{{end}}{{define \"x\"}}b{{end}}{{define \"x\"}} {{end}}{{template \"x\"}}", "b");
    // A list of lists by a template that calls itself.
    let tree = "{{define \"t\"}}{{range .}}({{template \"t\" .}}){{end}}{{end}}{{template \"t\" .}}";
    let value = Value::parse(b"[[[],[]],[]]").unwrap();
    assert_eq!(Template::parse(tree).unwrap().render(&value, None).unwrap(), "(()())()");
}

#[test]
fn wrong_templates_in_templates_say_so() {
    fails("{{template \"x\"}}", "template: :1:11: executing \"\" at <{{template \"x\"}}>: template \"x\" not defined");
    fails("{{if true}}{{define \"x\"}}{{end}}{{end}}", "template: :1:13: unexpected <define> in command");
    fails("{{define x}}{{end}}", "template: :1:9: unexpected <x> in define clause");
    assert!(render("{{define \"x\"}}a{{end}}{{define \"x\"}}b{{end}}").unwrap_err().contains("multiple definition"));
    assert!(render("{{define \"x\"}}").unwrap_err().contains("has no {{end}}"));
    assert!(render("{{define \"x\"}}{{$a}}{{end}}{{$a := 1}}{{template \"x\"}}").unwrap_err().contains("undefined"));
    assert!(render("{{range .Mounts}}{{end}}{{block \"x\" .}}{{break}}{{end}}").unwrap_err().contains("outside"));
    let endless = "{{define \"x\"}}{{if true}}{{template \"x\"}}{{end}}{{end}}{{template \"x\"}}";
    assert!(render(endless).unwrap_err().contains("exceeded maximum template depth"));
}
