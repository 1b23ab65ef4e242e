"""How a refusal looks: one line of English (what, where, how to mend it), one of Chinese for its kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from consortium.errors import ConsortiumError

REFUSED = 1
USAGE = 2
INTERRUPTED = 130

HINTS: Mapping[str, str] = {
    "refused": "请求被拒绝，请按上面的说明修改。",
    "malformed": "内容格式不正确：须为规范 JSON。",
    "too-large": "输入超过上限。",
    "bad-signature": "签名或密钥无法验证。",
    "bad-proof": "默克尔证明不成立。",
    "bad-checkpoint": "检查点无法解析或验证。",
    "stale": "请求所依据的账本长度与本节点不同。",
    "fork": "账本出现分叉，请保留证据并联系其他成员。",
    "bad-entry": "账本条目不符合规则。",
    "bad-invitation": "邀请已过期、已使用，或属于另一个联盟。",
    "bad-policy": "共享策略无效，请检查属性名与语法。",
    "bad-request": "作业请求有误，请对照数据目录检查列名与参数。",
    "bad-dataset": "数据文件与描述不一致，或无法读取。",
    "budget-exceeded": "隐私预算不足。",
    "secure-sum-refused": "安全求和未能完成或违反协议。",
    "not-scorable": "这些轮次无法计算贡献分。",
    "bad-settlement": "结算不符合章程。",
    "refused-by-policy": "节点的共享策略不允许此作业。",
    "not-authorised": "没有权限执行此操作。",
    "not-found": "找不到该对象。",
    "paused": "节点已被管理员暂停；用 consortium resume 恢复。",
    "unavailable": "对方无法连接或没有及时响应。",
    "bad-config": "节点目录、配置文件或命令行参数有误。",
    "app-failed": "训练应用在节点上运行失败。",
    "app-invalid": "训练应用包无效。",
    "message-malformed": "训练消息格式不正确。",
    "training-refused": "训练请求、应用或模型被拒绝。",
    "demo-failed": "演示的某一步没有按预期结束，请查看日志。",
    "internal": "内部错误，详情见节点本地日志。",
    "usage": "命令用法有误，请用 --help 查看。",
    "interrupted": "操作已中断。",
}


def show_refusal(error: ConsortiumError, *, as_json: bool) -> int:
    """Tells the user why; the document on stdout under `--json`, the text on stderr otherwise. Exit code 1."""
    return show_fault(error.code, error.what, where=error.where, mend=error.mend, as_json=as_json, exit_code=REFUSED)


def show_fault(code: str, what: str, *, where: str, mend: str, as_json: bool, exit_code: int) -> int:
    """Writes a fault and returns the exit code that goes with it."""
    if as_json:
        fault = {"code": code, "what": what, "where": where, "mend": mend}
        sys.stdout.write(json.dumps({"error": fault}, ensure_ascii=False) + "\n")
        return exit_code
    place = f" [{where}]" if where else ""
    advice = f" {mend}" if mend else ""
    line = " ".join(f"{what}{place}{advice}".split())
    sys.stderr.write(f"consortium: {line}\n{HINTS.get(code, HINTS['refused'])} ({code})\n")
    return exit_code
