from policies import Stage, policy


@policy(at=Stage.MAIL)
class Mine: ...
