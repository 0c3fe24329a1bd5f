# As much of nixpkgs' lib as the modules here use, for machines that have no nixpkgs: options, types, and the
# evaluation of modules. It is strict where that finds mistakes: unknown options, values of a wrong type,
# options without a description.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    mapAttrs
    match
    stringLength
    substring
    zipAttrsWith
    ;

  lib = rec {
    # -- values ---------------------------------------------------------------------------------------

    inherit (builtins) elem filter head;
    last = list: elemAt list (length list - 1);
    foldr = f: last: list: if list == [ ] then last else f (head list) (foldr f last (builtins.tail list));
    unique = foldl' (seen: item: if elem item seen then seen else seen ++ [ item ]) [ ];
    concatStringsSep = builtins.concatStringsSep;
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    splitString = separator: text: filter isString (builtins.split "[${separator}]" text);
    toInt = text: builtins.fromJSON text;
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: attrs: if condition then attrs else { };
    mapAttrsToList = f: attrs: map (name: f name attrs.${name}) (attrNames attrs);
    genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
    imap1 = f: list: builtins.genList (index: f (index + 1) (elemAt list index)) (length list);
    nameValuePair = name: value: { inherit name value; };
    recursiveUpdate =
      left: right:
      left
      // mapAttrs (
        name: value:
        if isAttrs value && isAttrs (left.${name} or null) then recursiveUpdate left.${name} value else value
      ) right;

    # -- options and definitions ----------------------------------------------------------------------

    literalExpression = text: { _type = "literalExpression"; inherit text; };
    mkOption = attributes: attributes // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;

    # -- types ----------------------------------------------------------------------------------------

    types =
      let
        equal =
          location: values:
          if all (value: value == head values) values then
            head values
          else
            throw "The option `${location}' has conflicting definition values.";
        plain = description: check: {
          inherit description check;
          merge = equal;
        };
      in
      rec {
        anything = plain "anything" (_: true) // {
          merge =
            location: values:
            if all isAttrs values then
              zipAttrsWith (name: anything.merge "${location}.${name}") values
            else
              equal location values;
        };
        bool = plain "boolean" isBool;
        str = plain "string" isString;
        path = plain "path" (value: builtins.typeOf value == "path" || hasPrefix "/" "${value}");
        int = plain "integer" isInt;
        float = plain "number" builtins.isFloat;
        port = plain "port" (value: isInt value && value >= 0 && value <= 65535);
        package = plain "package" (value: isAttrs value && value ? outPath);
        strMatching =
          pattern: plain "string matching ${pattern}" (value: isString value && match pattern value != null);
        enum = values: plain "one of ${concatStringsSep ", " values}" (value: elem value values);
        addCheck = type: check: type // { check = value: type.check value && check value; };
        nullOr = type: {
          description = "null or ${type.description}";
          check = value: value == null || type.check value;
          merge =
            location: values: if elem null values then equal location values else type.merge location values;
        };
        either = left: right: {
          description = "${left.description} or ${right.description}";
          check = value: left.check value || right.check value;
          merge = location: values: (if all left.check values then left else right).merge location values;
        };
        listOf = type: {
          description = "list of ${type.description}";
          check = value: isList value && all type.check value;
          merge = _: concatLists;
        };
        attrsOf = type: {
          description = "attribute set of ${type.description}";
          check = isAttrs;
          element = type;
          merge =
            location: values:
            let
              definitions = zipAttrsWith (_: parts: concatMap discharge parts) values;
            in
            mapAttrs (name: merge "${location}.${name}" type) (
              removeAttrs definitions (filter (name: definitions.${name} == [ ]) (attrNames definitions))
            );
        };
        submodule = module: {
          description = "submodule";
          check = isAttrs;
          getSubOptions = _: (evalModules { modules = [ module ]; }).options;
          merge =
            location: values:
            (evalModules {
              inherit location;
              modules = [ module ] ++ map (config: { inherit config; }) values;
            }).config;
        };
      };

    # -- evaluation -----------------------------------------------------------------------------------

    # Definitions without their wrappers, with priorities: [ { priority, value } ].
    discharge =
      definition:
      let
        kind = definition._type or null;
      in
      if !isAttrs definition then
        [ { priority = 100; value = definition; } ]
      else if kind == "if" then
        if definition.condition then discharge definition.content else [ ]
      else if kind == "merge" then
        concatMap discharge definition.contents
      else if kind == "override" then
        map (inner: inner // { inherit (definition) priority; }) (discharge definition.content)
      else
        [ { priority = 100; value = definition; } ];

    # Wrappers around a set, pushed into it: no condition is looked at, so that it may depend on the result.
    pushDown =
      definition:
      let
        kind = definition._type or null;
        each = wrap: concatMap (inner: [ (mapAttrs (_: wrap) inner) ]) (pushDown definition.content);
      in
      if kind == "if" then
        each (mkIf definition.condition)
      else if kind == "merge" then
        concatMap pushDown definition.contents
      else if kind == "override" then
        each (mkOverride definition.priority)
      else
        [ definition ];

    merge =
      location: type: definitions:
      let
        strongest = foldl' (
          best: { priority, ... }: if priority < best then priority else best
        ) 9999 definitions;
        values = map ({ value, ... }: value) (
          filter ({ priority, ... }: priority == strongest) definitions
        );
        wrong = filter (value: !type.check value) values;
      in
      if wrong != [ ] then
        throw "A definition for option `${location}' is not of type `${type.description}'."
      else
        type.merge location values;

    evaluateOption =
      location: option: definitions:
      let
        discharged = concatMap discharge definitions;
      in
      if !(option ? description) then
        throw "The option `${location}' has no description."
      else if discharged != [ ] then
        merge location option.type discharged
      else if option ? default then
        merge location option.type (discharge option.default)
      else
        throw "The option `${location}' is used but not defined.";

    evaluateTree =
      location: options: freeform: definitions:
      let
        pushed = concatMap pushDown definitions;
        names = unique (concatMap attrNames pushed);
        unknown = filter (name: !(options ? ${name})) names;
        at = name: if location == "" then name else "${location}.${name}";
        of = name: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) pushed;
        declared = mapAttrs (
          name: option:
          if option._type or null == "option" then
            evaluateOption (at name) option (of name)
          else
            evaluateTree (at name) option freeform (of name)
        ) options;
        free = listToAttrs (
          concatMap (
            name:
            let
              discharged = concatMap discharge (of name);
            in
            optionals (discharged != [ ]) [ (nameValuePair name (merge (at name) freeform discharged)) ]
          ) unknown
        );
      in
      if unknown == [ ] then
        declared
      else if freeform == null then
        throw "The option `${at (head unknown)}' does not exist."
      else
        free // declared;

    evalModules =
      {
        modules,
        specialArgs ? { },
        location ? "",
      }:
      let
        load =
          module:
          let
            content = if isFunction module || isAttrs module then module else import module;
            set = if isFunction content then content arguments else content;
            structured = set ? config || set ? options || set ? imports || set ? freeformType;
            known = [
              "config"
              "freeformType"
              "imports"
              "options"
            ];
            stray = filter (name: !elem name known) (attrNames set);
          in
          if structured && stray != [ ] then
            throw "A module has both `config' and `${head stray}'."
          else if structured then
            concatMap load (set.imports or [ ]) ++ [ set ]
          else
            [ { config = set; } ];
        arguments = specialArgs // {
          inherit config options lib;
        };
        loaded = concatMap load modules;
        options = foldl' recursiveUpdate { } (map (module: module.options or { }) loaded);
        freeforms = concatMap (module: optionals (module ? freeformType) [ module.freeformType ]) loaded;
        freeform = if freeforms == [ ] then null else head freeforms;
        config = evaluateTree location options freeform (map (module: module.config or { }) loaded);
      in
      {
        inherit config options;
      };
  };
in
lib
